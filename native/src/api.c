__attribute__((visibility("default"))) const char *VixDiskLib_ListTransportModes(void)
{
   return "file";
}
