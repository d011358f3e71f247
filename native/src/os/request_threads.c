#include "os/request_threads.h"

#include <pthread.h>
#include <stddef.h>

/* Enough to keep a disk busy; buffered writes to one file queue up in the kernel anyway. */
#define THREADS 4u

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work = PTHREAD_COND_INITIALIZER; /* something may be ready to run */
static pthread_cond_t done = PTHREAD_COND_INITIALIZER; /* an owner has nothing pending */
static vr_request *queue;
static vr_request **queue_end = &queue;
static pthread_t threads[THREADS];
static unsigned thread_count;
static bool stopping;

/* Takes the first request that neither a running nor an earlier one of its owner holds back. */
static vr_request *take(void)
{
   for (vr_request **at = &queue; *at; at = &(*at)->next) {
      vr_request *r = *at;
      bool waits = r->owner->alone || (!r->shares && r->owner->sharing);
      for (vr_request *earlier = queue; !waits && earlier != r; earlier = earlier->next) {
         waits = earlier->owner == r->owner;
      }
      if (waits) {
         continue;
      }
      *at = r->next;
      if (queue_end == &r->next) {
         queue_end = at;
      }
      r->owner->alone = !r->shares;
      r->owner->sharing += r->shares;
      return r;
   }
   return NULL;
}

static void *serve(void *unused)
{
   (void)unused;
   pthread_mutex_lock(&lock);
   for (;;) {
      vr_request *r = take();
      if (!r) {
         if (stopping && !queue) {
            break;
         }
         pthread_cond_wait(&work, &lock);
         continue;
      }
      pthread_mutex_unlock(&lock);
      vr_request_owner *owner = r->owner;
      r->run(r);
      pthread_mutex_lock(&lock);
      if (r->shares) {
         owner->sharing--;
      } else {
         owner->alone = false;
      }
      pthread_cond_broadcast(&work); /* the end of one that ran alone may free several */
      pthread_mutex_unlock(&lock);
      r->ended(r);
      pthread_mutex_lock(&lock);
      if (!--owner->pending) {
         pthread_cond_broadcast(&done);
      }
   }
   pthread_mutex_unlock(&lock);
   return NULL;
}

VixError vr_requests_submit(vr_request *request)
{
   pthread_mutex_lock(&lock);
   while (thread_count < THREADS && !stopping) {
      if (pthread_create(&threads[thread_count], NULL, serve, NULL) != 0) {
         break;
      }
      thread_count++;
   }
   if (!thread_count || stopping) {
      pthread_mutex_unlock(&lock);
      return VIX_E_OUT_OF_MEMORY;
   }
   request->next = NULL;
   *queue_end = request;
   queue_end = &request->next;
   request->owner->pending++;
   pthread_cond_signal(&work);
   pthread_mutex_unlock(&lock);
   return VIX_ASYNC;
}

void vr_requests_wait(vr_request_owner *owner)
{
   pthread_mutex_lock(&lock);
   while (owner->pending) {
      pthread_cond_wait(&done, &lock);
   }
   pthread_mutex_unlock(&lock);
}

void vr_requests_stop(void)
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
