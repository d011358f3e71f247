/* Runs a fuzz target over the files of its corpus, for compilers without libFuzzer. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int main(int argc, char **argv)
{
   for (int i = 1; i < argc; i++) {
      FILE *f = fopen(argv[i], "rb");
      if (!f || fseek(f, 0, SEEK_END) != 0) {
         perror(argv[i]);
         return 1;
      }
      long bytes = ftell(f);
      rewind(f);
      uint8_t *data = malloc(bytes > 0 ? (size_t)bytes : 1);
      if (!data || bytes < 0 || fread(data, 1, (size_t)bytes, f) != (size_t)bytes) {
         perror(argv[i]);
         return 1;
      }
      fclose(f);
      LLVMFuzzerTestOneInput(data, (size_t)bytes);
      free(data);
   }
   return 0;
}
