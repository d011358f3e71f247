/*
 * Drives src/vim against the lab and against hostile servers of tests/native/test_vim.py.
 *
 * Lines of standard input:
 *    name=value          of vr_vim_target: server port thumbprint user password cookie vmx snapshot
 *    open
 *    read PATH           a ticket to read the disk; `write PATH` one to write it
 *    close
 * Each of the last four prints one line that begins with the code of its result. Lines that begin
 * with "log " are the library's.
 */
#include "os/log.h"
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
   t->port = (unsigned)atoi(value);
   free(copy);
}

static void ticket(vr_vim *vim, const char *path, bool read_only)
{
   vr_nfc_ticket t;
   VixError err = vr_vim_new_ticket(vim, path, read_only, &t);
   printf("%u", (unsigned)err);
   if (err == VIX_OK) {
      printf(" %s %u %s %s %s %llu %s", t.host, t.port, t.service, t.session_id, t.sha1_thumbprint,
         (unsigned long long)t.capacity, t.certificate_pem ? "pem" : "-");
   }
   printf("\n");
   vr_nfc_ticket_free(&t);
}

int main(void)
{
   static char line[4096];
   vr_vim_target target = {0};
   vr_vim *vim = NULL;
   setvbuf(stdout, NULL, _IOLBF, 0);
   vr_log_to(note, note);
   while (fgets(line, sizeof line, stdin)) {
      line[strcspn(line, "\n")] = 0;
      if (!strcmp(line, "open")) {
         printf("%u\n", (unsigned)vr_vim_open(&target, &vim));
      } else if (!strncmp(line, "read ", 5)) {
         ticket(vim, line + 5, true);
      } else if (!strncmp(line, "write ", 6)) {
         ticket(vim, line + 6, false);
      } else if (!strcmp(line, "close")) {
         vr_vim_close(vim);
         vim = NULL;
         printf("0\n");
      } else {
         set(&target, line);
      }
   }
   vr_vim_close(vim);
   const char *texts[] = {target.server, target.thumbprint, target.user, target.password,
      target.cookie, target.vmx_spec, target.snapshot};
   for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
      free((char *)texts[i]);
   }
   return 0;
}
