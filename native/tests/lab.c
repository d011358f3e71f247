/* Tests connections to the lab's vCenters through DIR/hosts.map. Runs in a fresh folder. */
#include "check.h"

#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#define THUMBPRINT "AA:BB:CC:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:01"

static char root[500];
static char warnings[10000];

static void note(const char *fmt, va_list args)
{
   size_t used = strlen(warnings);
   vsnprintf(warnings + used, sizeof warnings - used, fmt, args);
}

static void write_file(const char *path, const char *text)
{
   FILE *f = fopen(path, "w");
   CHECK(f && fputs(text, f) >= 0 && fclose(f) == 0);
}

typedef struct {
   const char *host;
   uint32_t port;
   const char *user;
   const char *password;
   const char *thumbprint;
   const char *vmx;
} place;

static const place good = {"vc-a.lab", 8443, "root", "s3cret", THUMBPRINT, "moref=vm-7"};

static VixError connect_to(place p, Bool read_only, VixDiskLibConnection *out)
{
   VixDiskLibConnectParams *params = VixDiskLib_AllocateConnectParams();
   params->serverName = (char *)p.host;
   params->port = p.port;
   params->credType = VIXDISKLIB_CRED_UID;
   params->creds.uid.userName = (char *)p.user;
   params->creds.uid.password = (char *)p.password;
   params->thumbPrint = (char *)p.thumbprint;
   params->vmxSpec = (char *)p.vmx;
   VixError err = VixDiskLib_ConnectEx(params, read_only, "snapshot-1", "file:nbdssl:nbd", out);
   VixDiskLib_FreeConnectParams(params);
   return err;
}

static void refused(void)
{
   VixDiskLibConnection c;
   place p = good;
   p.host = "vc-z.lab";
   GIVES(VIX_E_CANNOT_CONNECT_TO_HOST, connect_to(p, 1, &c));
   p = good;
   p.port = 0; /* 443 */
   GIVES(VIX_E_CANNOT_CONNECT_TO_HOST, connect_to(p, 1, &c));
   p = good;
   p.password = "s3crets";
   GIVES(VIX_E_AUTHENTICATION_FAIL, connect_to(p, 1, &c));
   p.password = NULL;
   GIVES(VIX_E_AUTHENTICATION_FAIL, connect_to(p, 1, &c));
   p = good;
   p.vmx = "[ds1] vm/vm.vmx?dcPath=x";
   GIVES(VIX_E_INVALID_ARG, connect_to(p, 1, &c));
   p.vmx = NULL;
   GIVES(VIX_E_INVALID_ARG, connect_to(p, 1, &c));
}

static void thumbprints(void)
{
   VixDiskLibConnection c;
   VixDiskLibHandle h;
   place p = good;
   p.thumbprint = "00:11:22";
   OK(connect_to(p, 1, &c)); /* a wrong one fails at Open, as in VDDK */
   warnings[0] = 0;
   GIVES(VIX_E_FAIL, VixDiskLib_Open(c, "[ds1] vm/vm.vmdk", 4, &h));
   OK(VixDiskLib_Disconnect(c));
   OK(connect_to(p, 1, &c));
   CHECK(strstr(warnings, "00:11:22") && strstr(warnings, THUMBPRINT));
   CHECK(!strstr(warnings, "s3cret"));
   OK(VixDiskLib_Disconnect(c));
   p.thumbprint = "aabbcc00112233445566778899aabbccddeeff01";
   OK(connect_to(p, 1, &c));
   OK(VixDiskLib_Open(c, "[ds1] vm/vm.vmdk", 4, &h));
   OK(VixDiskLib_Close(h));
   OK(VixDiskLib_Disconnect(c));
}

static void paths(VixDiskLibConnection c)
{
   VixDiskLibHandle h;
   static const char *const wrong[] = {"[ds1] ../secret.vmdk", "[ds1] vm/../../secret.vmdk",
      "[ds1] vm/link.vmdk", "[ds2] vm/vm.vmdk", "[ds1] nothing/vm.vmdk", "[ds1] vm/nothing.vmdk"};
   for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
      GIVES(VIX_E_FILE_NOT_FOUND, VixDiskLib_Open(c, wrong[i], 4, &h));
   }
   GIVES(VIX_E_FILE_NAME_INVALID, VixDiskLib_Open(c, "vm/vm.vmdk", 4, &h));
   GIVES(VIX_E_FILE_NAME_INVALID, VixDiskLib_Open(c, "[ds1] /etc/passwd", 4, &h));
   GIVES(VIX_E_FILE_NAME_INVALID, VixDiskLib_Open(c, "[ds1", 4, &h));
}

static void access_rules(VixDiskLibConnection here)
{
   VixDiskLibConnection c;
   VixDiskLibHandle reader;
   VixDiskLibHandle writer;
   uint8_t sector[512] = {42};
   OK(connect_to(good, 0, &c));
   OK(VixDiskLib_Open(c, "[ds1] vm/vm.vmdk", 0, &writer));
   CHECK(!strcmp(VixDiskLib_GetTransportMode(writer), "nbdssl"));
   OK(VixDiskLib_Write(writer, 9, 1, sector));
   /* Like the leaf of a running machine: it cannot be read, its parents can. */
   GIVES(VIX_E_FILE_ALREADY_LOCKED, VixDiskLib_Open(c, "[ds1] vm/vm.vmdk", 4, &reader));
   GIVES(VIX_E_FILE_ALREADY_LOCKED, VixDiskLib_Open(c, "[ds1] vm/vm.vmdk", 0, &reader));
   OK(VixDiskLib_Open(here, "store/vm/vm.vmdk", 4, &reader)); /* local reading is allowed */
   OK(VixDiskLib_Close(reader));
   OK(VixDiskLib_Close(writer));
   OK(VixDiskLib_Open(c, "[ds1] vm/vm.vmdk", 4, &reader));
   OK(VixDiskLib_Read(reader, 9, 1, sector));
   CHECK(sector[0] == 42);
   VixDiskLibCreateParams params = {.diskType = VIXDISKLIB_DISK_VMFS_FLAT, .capacity = 8};
   GIVES(VIX_E_NOT_SUPPORTED_ON_REMOTE_OBJECT,
      VixDiskLib_Create(c, "[ds1] vm/new.vmdk", &params, NULL, NULL));
   GIVES(VIX_E_NOT_SUPPORTED_ON_REMOTE_OBJECT, VixDiskLib_CreateChild(reader, "store/vm/kid.vmdk",
      VIXDISKLIB_DISK_MONOLITHIC_SPARSE, NULL, NULL));
   GIVES(VIX_E_NOT_SUPPORTED_ON_REMOTE_OBJECT, VixDiskLib_Unlink(c, "[ds1] vm/vm.vmdk"));
   OK(VixDiskLib_Close(reader));
   params.diskType = VIXDISKLIB_DISK_MONOLITHIC_SPARSE;
   OK(VixDiskLib_Clone(here, "copy.vmdk", c, "[ds1] vm/vm.vmdk", &params, NULL, NULL, 0));
   OK(VixDiskLib_Disconnect(c));
   OK(connect_to(good, 1, &c)); /* read only from the connection on */
   OK(VixDiskLib_Open(c, "[ds1] vm/vm.vmdk", 0, &reader));
   GIVES(VIX_E_FILE_READ_ONLY, VixDiskLib_Write(reader, 0, 1, sector));
   OK(VixDiskLib_Close(reader));
   paths(c);
   VixDiskLibConnectParams *back;
   OK(VixDiskLib_GetConnectParams(c, &back));
   CHECK(!strcmp(back->serverName, "vc-a.lab") && back->port == 8443 && !back->creds.uid.password);
   CHECK(!strncmp(back->vmxSpec, "moref=", 6) && strstr(back->thumbPrint, ":")
      && back->credType == VIXDISKLIB_CRED_UID);
   VixDiskLib_FreeConnectParams(back);
   OK(VixDiskLib_Disconnect(c));
}

static uint32_t epoch_of_block(int block)
{
   uint32_t epoch;
   FILE *f = fopen("store/vm/vm-ctk.vmdk", "r");
   CHECK(f && fseek(f, 4096 + 4 * block, SEEK_SET) == 0 && fread(&epoch, 4, 1, f) == 1);
   CHECK(fclose(f) == 0);
   return epoch;
}

/* Blocks of 64 KiB, the second epoch of a disk of 1000 sectors. */
static void make_map(void)
{
   struct {
      char magic[8];
      uint64_t block, capacity;
      uint8_t uuid[16];
      uint64_t epoch;
   } header = {"", 65536, 1000 * 512, {0}, 2};
   memcpy(header.magic, "VRLABCTK", 8);
   FILE *f = fopen("store/vm/vm-ctk.vmdk", "w");
   CHECK(f && fwrite(&header, sizeof header, 1, f) == 1 && fclose(f) == 0);
   CHECK(truncate("store/vm/vm-ctk.vmdk", 4096 + 8 * 4) == 0);
}

/* Writes as a host does them: the datastore has to have room, and the change map is marked on
 * demand. */
static void host_of_a_write(void)
{
   VixDiskLibConnection c;
   VixDiskLibHandle h;
   static uint8_t data[256 * 512] = {1};
   memset(data, 1, sizeof data);
   OK(connect_to(good, 0, &c));
   make_map();
   write_file("store.host", "capacity 1000000000000 track 0\n");
   OK(VixDiskLib_Open(c, "[ds1] vm/vm.vmdk", 0, &h));
   OK(VixDiskLib_Write(h, 0, 1, data));
   OK(VixDiskLib_Close(h));
   CHECK(epoch_of_block(0) == 0);
   write_file("store.host", "capacity 1000000000000 track 1\n");
   OK(VixDiskLib_Open(c, "[ds1] vm/vm.vmdk", 0, &h));
   OK(VixDiskLib_Write(h, 255, 2, data));
   OK(VixDiskLib_Write(h, 999, 1, data));
   OK(VixDiskLib_Close(h));
   for (int block = 0; block < 8; block++) {
      CHECK(epoch_of_block(block) == (block == 1 || block == 2 || block == 7 ? 2 : 0));
   }
   write_file("store.host", "capacity 1000 track 1\n");
   OK(VixDiskLib_Open(c, "[ds1] vm/vm.vmdk", 0, &h));
   warnings[0] = 0;
   GIVES(VIX_E_DISK_FULL, VixDiskLib_Write(h, 384, 128, data));
   CHECK(strstr(warnings, "full") && epoch_of_block(3) == 0);
   OK(VixDiskLib_Write(h, 255, 2, data)); /* over what is there */
   OK(VixDiskLib_Close(h));
   VixDiskLibConnection here = local();
   make(here, "store/vm/thick.vmdk", VIXDISKLIB_DISK_VMFS_FLAT, 1000);
   OK(VixDiskLib_Disconnect(here));
   OK(VixDiskLib_Open(c, "[ds1] vm/thick.vmdk", 0, &h));
   OK(VixDiskLib_Write(h, 384, 128, data)); /* it has its room */
   OK(VixDiskLib_Close(h));
   CHECK(unlink("store.host") == 0);
   OK(VixDiskLib_Disconnect(c));
}

static void parents(VixDiskLibConnection here)
{
   VixDiskLibConnection c;
   VixDiskLibHandle h;
   h = open_disk(here, "secret.vmdk", 4);
   OK(VixDiskLib_CreateChild(h, "store/vm/outside.vmdk", VIXDISKLIB_DISK_MONOLITHIC_SPARSE, NULL,
      NULL));
   OK(VixDiskLib_Close(h));
   OK(connect_to(good, 1, &c));
   GIVES(VIX_E_FILE_ACCESS_ERROR, VixDiskLib_Open(c, "[ds1] vm/outside.vmdk", 4, &h));
   OK(VixDiskLib_Disconnect(c));
   OK(VixDiskLib_Open(here, "store/vm/outside.vmdk", 4, &h));
   OK(VixDiskLib_Close(h));
}

static void extents_outside(void)
{
   VixDiskLibHandle h;
   write_file("data-flat.vmdk", "a sector of text");
   CHECK(truncate("data-flat.vmdk", 512) == 0);
   write_file("store/out.vmdk", "# Disk DescriptorFile\nCID=12345678\nparentCID=ffffffff\n"
      "createType=\"vmfs\"\nRW 1 VMFS \"../data-flat.vmdk\"\n");
   write_file("outside.conf", "vreplica.extents.allowOutside = \"1\"\n");
   for (int allowed = 0; allowed < 2; allowed++) {
      OK(VixDiskLib_InitEx(8, 0, NULL, NULL, NULL, NULL, allowed ? "outside.conf" : NULL));
      VixDiskLibConnection c = local();
      VixError err = VixDiskLib_Open(c, "store/out.vmdk", 4, &h);
      CHECK(err == (allowed ? (VixError)VIX_OK : (VixError)VIX_E_FILE_ACCESS_ERROR));
      if (allowed) {
         OK(VixDiskLib_Close(h));
      }
      OK(VixDiskLib_Disconnect(c));
      VixDiskLib_Exit();
   }
}

int main(void)
{
   char text[2000];
   CHECK(getcwd(root, sizeof root));
   CHECK(mkdir("store", 0777) == 0 && mkdir("store/vm", 0777) == 0);
   snprintf(text, sizeof text, "# the lab\nvreplica.lab.root = %s\nvixDiskLib.nfc.LogLevel=4\n", root);
   write_file("lab.conf", text);
   GIVES(VIX_E_FILE_NOT_FOUND, VixDiskLib_InitEx(8, 0, NULL, note, NULL, NULL, "absent.conf"));
   OK(VixDiskLib_InitEx(8, 0, NULL, note, NULL, NULL, "lab.conf"));
   VixDiskLibConnection c;
   GIVES(VIX_E_CANNOT_CONNECT_TO_HOST, connect_to(good, 1, &c)); /* no map yet */
   snprintf(text, sizeof text,
      "vcenter\tvc-b.lab\t8443\t00:01\tother\tother\nbroken line\n"
      "vcenter\tvc-a.lab\t8443\t" THUMBPRINT "\troot\ts3cret\n"
      "datastore\tvc-b.lab\t8443\tds2\t%s/store\n"
      "datastore\tvc-a.lab\t8443\tds1\t%s/store\n", root, root);
   write_file("hosts.map", text);
   VixDiskLibConnection here = local();
   make(here, "store/vm/vm.vmdk", VIXDISKLIB_DISK_VMFS_THIN, 1000);
   make(here, "secret.vmdk", VIXDISKLIB_DISK_VMFS_THIN, 1000);
   CHECK(symlink("../../secret.vmdk", "store/vm/link.vmdk") == 0);
   refused();
   thumbprints();
   access_rules(here);
   host_of_a_write();
   parents(here);
   OK(VixDiskLib_Disconnect(here));
   VixDiskLib_Exit();
   extents_outside();
   return 0;
}
