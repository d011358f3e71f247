#include "os/request_threads.h"

#include <stdlib.h>

/* Enough to keep a disk busy; buffered writes to one file queue up in the kernel anyway. */
#define THREADS 4u

typedef struct request {
   struct request *next;
   vr_disk *disk;
   bool write;
   uint64_t sector;
   uint64_t sectors;
   uint8_t *buf;
   VixDiskLibCompletionCB callback;
   void *data;
} request;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work = PTHREAD_COND_INITIALIZER; /* something may be ready to run */
static pthread_cond_t done = PTHREAD_COND_INITIALIZER;
static request *queue;
static request **queue_end = &queue;
static pthread_t threads[THREADS];
static unsigned thread_count;
static bool stopping;

/* Takes the first request that no earlier one of its disk holds back. */
static request *take(void)
{
   for (request **at = &queue; *at; at = &(*at)->next) {
      request *r = *at;
      bool held = r->disk->async.writing || (r->write && r->disk->async.readers);
      for (request *earlier = queue; !held && earlier != r; earlier = earlier->next) {
         held = earlier->disk == r->disk;
      }
      if (held) {
         continue;
      }
      *at = r->next;
      if (queue_end == &r->next) {
         queue_end = at;
      }
      r->disk->async.writing = r->write;
      r->disk->async.readers += !r->write;
      return r;
   }
   return NULL;
}

static void *serve(void *unused)
{
   (void)unused;
   pthread_mutex_lock(&lock);
   for (;;) {
      request *r = take();
      if (!r) {
         if (stopping && !queue) {
            break;
         }
         pthread_cond_wait(&work, &lock);
         continue;
      }
      pthread_mutex_unlock(&lock);
      vr_disk *disk = r->disk;
      VixError err = r->write ? vr_disk_write(disk, r->sector, r->sectors, r->buf)
                              : vr_disk_read(disk, r->sector, r->sectors, r->buf);
      pthread_mutex_lock(&lock);
      if (r->write) {
         disk->async.writing = false;
      } else {
         disk->async.readers--;
      }
      pthread_cond_broadcast(&work); /* a finished write may free several reads */
      pthread_mutex_unlock(&lock);
      r->callback(r->data, err);
      free(r);
      pthread_mutex_lock(&lock);
      if (!--disk->async.pending) {
         pthread_cond_broadcast(&done);
      }
   }
   pthread_mutex_unlock(&lock);
   return NULL;
}

VixError vr_async_submit(vr_disk *disk, bool write, uint64_t sector, uint64_t sectors, uint8_t *buf,
   VixDiskLibCompletionCB callback, void *data)
{
   request *r = malloc(sizeof *r);
   if (!r) {
      return VIX_E_OUT_OF_MEMORY;
   }
   *r = (request){NULL, disk, write, sector, sectors, buf, callback, data};
   pthread_mutex_lock(&lock);
   while (thread_count < THREADS && !stopping) {
      if (pthread_create(&threads[thread_count], NULL, serve, NULL) != 0) {
         break;
      }
      thread_count++;
   }
   if (!thread_count || stopping) {
      pthread_mutex_unlock(&lock);
      free(r);
      return VIX_E_OUT_OF_MEMORY;
   }
   *queue_end = r;
   queue_end = &r->next;
   disk->async.pending++;
   pthread_cond_signal(&work);
   pthread_mutex_unlock(&lock);
   return VIX_ASYNC;
}

void vr_async_wait(vr_disk *disk)
{
   pthread_mutex_lock(&lock);
   while (disk->async.pending) {
      pthread_cond_wait(&done, &lock);
   }
   pthread_mutex_unlock(&lock);
}

void vr_async_stop(void)
{
   pthread_mutex_lock(&lock);
   stopping = true;
   pthread_cond_broadcast(&work);
   unsigned count = thread_count;
   pthread_mutex_unlock(&lock);
   for (unsigned i = 0; i < count; i++) {
      pthread_join(threads[i], NULL);
   }
   pthread_mutex_lock(&lock);
   thread_count = 0;
   stopping = false;
   pthread_mutex_unlock(&lock);
}
