/* Makes fsync and fdatasync empty. Preloaded into a process for comparison with one without syncs. */
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
