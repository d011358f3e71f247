/* Preloaded into a process that is to be compared with one that does not sync either. */
int fsync(int fd)
{
   (void)fd;
   return 0;
}

int fdatasync(int fd)
{
   (void)fd;
   return 0;
}
