/*
 * Drives src/vim against the lab and against hostile servers of tests/native/test_vim.py.
 *
 * Lines of standard input:
 *    name=value          of vr_vim_target: server port thumbprint user password cookie vmx snapshot
 *                        answer_ms
 *    open
 *    read PATH           a ticket to read the disk; `write PATH` one to write it
 *    take PATH           a ticket to read the disk, which is not shown
 *    close
 *    forget              what was set so far
 * Each of the last six prints one line that begins with the code of its result. Lines that begin
 * with "log " are the library's.
 */
#include "os/log.h"
#include "os/secret.h"
#include "vim/vim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void note(const char *fmt, va_list args)
{
   printf("log ");
   vprintf(fmt, args);
}

static void set(vr_vim_target *t, char *line)
{
   char *value = strchr(line, '=');
   *value++ = 0;
   char *copy = strdup(value);
   const struct {
      const char *name;
      const char **member;
   } texts[] = {{"server", &t->server}, {"thumbprint", &t->thumbprint}, {"user", &t->user},
      {"password", &t->password}, {"cookie", &t->cookie}, {"vmx", &t->vmx_spec},
      {"snapshot", &t->snapshot}};
   for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
      if (!strcmp(line, texts[i].name)) {
         free((char *)*texts[i].member);
         *texts[i].member = copy;
         return;
      }
   }
   *(strcmp(line, "port") ? &t->answer_ms : &t->port) = (unsigned)atoi(value);
   free(copy);
}

static void ticket(vr_vim *vim, const char *path, bool read_only, bool show)
{
   vr_nfc_ticket t;
   VixError err = vr_vim_new_ticket(vim, path, read_only, &t);
   if (err == VIX_OK && show) {
      printf("0 %s %u %s %s %s %llu %s\n", t.host, t.port, t.service, t.session_id,
         t.sha1_thumbprint, (unsigned long long)t.capacity, t.certificate_pem ? "pem" : "-");
   }
   vr_nfc_ticket_free(&t);
   if (err != VIX_OK || !show) {
      printf("%u\n", (unsigned)err);
   }
}

static void forget(vr_vim_target *t)
{
   const char **texts[] = {&t->server, &t->thumbprint, &t->user, &t->password, &t->cookie,
      &t->vmx_spec, &t->snapshot};
   for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
      vr_wipe_text((char *)*texts[i]);
      *texts[i] = NULL;
   }
}

int main(void)
{
   static char line[4096];
   vr_vim_target target = {0};
   vr_vim *vim = NULL;
   setvbuf(stdin, NULL, _IONBF, 0); /* no copy of a password stays there */
   setvbuf(stdout, NULL, _IOLBF, 0);
   vr_log_to(note, note);
   while (fgets(line, sizeof line, stdin)) {
      line[strcspn(line, "\n")] = 0;
      if (!strcmp(line, "open")) {
         printf("%u\n", (unsigned)vr_vim_open(&target, &vim));
      } else if (!strncmp(line, "read ", 5) || !strncmp(line, "take ", 5)) {
         ticket(vim, line + 5, true, *line == 'r');
      } else if (!strncmp(line, "write ", 6)) {
         ticket(vim, line + 6, false, true);
      } else if (!strcmp(line, "close")) {
         vr_vim_close(vim);
         vim = NULL;
         printf("0\n");
      } else if (!strcmp(line, "forget")) {
         forget(&target);
         printf("0\n");
      } else {
         set(&target, line);
      }
      vr_wipe(line, sizeof line);
   }
   vr_vim_close(vim);
   forget(&target);
   return 0;
}
