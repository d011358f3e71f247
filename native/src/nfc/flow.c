#include "nfc/flow.h"

#include "os/bytes.h"
#include "os/clock.h"
#include "os/log.h"

#include <errno.h>
#include <stdlib.h>

#define REQUESTS_IN_FLIGHT 64u
#define WAIT_MAX_MS 30000u

/* -- lists -- */

static void list_init(vr_nfc_list *list)
{
   list->head = NULL;
   list->tail = &list->head;
}

static void append(vr_nfc_list *list, vr_nfc_request *r)
{
   r->next = NULL;
   *list->tail = r;
   list->tail = &r->next;
}

static void prepend(vr_nfc_list *list, vr_nfc_request *r)
{
   r->next = list->head;
   list->head = r;
   if (!r->next) {
      list->tail = &r->next;
   }
}

static vr_nfc_request *take_at(vr_nfc_list *list, vr_nfc_request **at)
{
   vr_nfc_request *r = *at;
   *at = r->next;
   if (list->tail == &r->next) {
      list->tail = at;
   }
   return r;
}

static vr_nfc_request **find(vr_nfc_list *list, uint32_t op_id)
{
   for (vr_nfc_request **at = &list->head; *at; at = &(*at)->next) {
      if ((*at)->op_id == op_id) {
         return at;
      }
   }
   return NULL;
}

vr_nfc_request *vr_flow_request(vr_nfc_kind kind, uint64_t offset, uint32_t length, uint8_t *data)
{
   vr_nfc_request *r = calloc(1, sizeof *r);
   if (r) {
      r->kind = kind;
      r->offset = offset;
      r->length = length;
      r->data = data;
   }
   return r;
}

static bool is_io(const vr_nfc_request *r)
{
   return r->kind == VR_NFC_READ || r->kind == VR_NFC_WRITE;
}

static uint64_t bytes_of(const vr_nfc_request *r)
{
   return is_io(r) ? r->length : 0;
}

/* -- the end of requests and jobs; all with the lock held -- */

/* Counts a request of its job as over, and tells the job's owner if it was the last. Releases the
 * lock for the callback. */
static void settle(vr_nfc_flow *flow, vr_nfc_request *r, VixError result)
{
   vr_nfc_job *job = r->job;
   if (result != VIX_OK) {
      if (job->result == VIX_OK || job->result == VIX_E_CANCELLED) {
         job->result = result;
      }
      if (r->piece < job->failed_piece) {
         job->failed_piece = r->piece;
      }
   }
   if (!job->keeps_requests) {
      vr_request_forget(r);
      free(r);
   }
   if (--job->pending) {
      return;
   }
   job->finished = true;
   if (job->ended) {
      pthread_mutex_unlock(&flow->lock);
      job->ended(job);
      pthread_mutex_lock(&flow->lock);
   }
   flow->jobs--;
   pthread_cond_broadcast(&flow->ended);
}

/* Leaves out what waits of a job that has failed. */
static void leave_out(vr_nfc_flow *flow, const vr_nfc_job *job)
{
   vr_nfc_list left;
   list_init(&left);
   for (vr_nfc_request **at = &flow->waiting.head; *at;) {
      if ((*at)->job == job) {
         append(&left, take_at(&flow->waiting, at));
      } else {
         at = &(*at)->next;
      }
   }
   while (left.head) {
      settle(flow, take_at(&left, &left.head), VIX_E_CANCELLED);
   }
}

static void fail_waiting(vr_nfc_flow *flow, VixError err)
{
   while (flow->waiting.head) {
      settle(flow, take_at(&flow->waiting, &flow->waiting.head), err);
   }
}

static vr_nfc_request *take_sent(vr_nfc_flow *flow, vr_nfc_request **at)
{
   vr_nfc_request *r = take_at(&flow->sent, at);
   flow->in_flight--;
   flow->writes_in_flight -= r->kind == VR_NFC_WRITE;
   flow->bytes_in_flight -= bytes_of(r);
   return r;
}

/* -- sending -- */

/* The session is lost: wakes whoever reads from it or writes to it. */
static void lose(vr_nfc_flow *flow, VixError cause)
{
   if (!flow->broken) {
      flow->broken = true;
      flow->cause = cause;
      vr_stream_interrupt(flow->link.session.stream);
      pthread_cond_signal(&flow->arrived);
   }
}

static bool may_send(const vr_nfc_flow *flow)
{
   const vr_nfc_request *r = flow->waiting.head;
   return r && !flow->broken && flow->in_flight < REQUESTS_IN_FLIGHT
      && (!flow->in_flight || flow->bytes_in_flight + bytes_of(r) <= flow->window);
}

static unsigned time_limit(const vr_nfc_flow *flow, vr_nfc_kind kind)
{
   const vr_nfc_config *config = &flow->link.target.config;
   return kind == VR_NFC_WRITE ? config->write_ms
      : kind == VR_NFC_CLOSE   ? config->close_ms
                               : config->read_ms;
}

/* Sends what waits while the window has room, unless someone does so already. Lock held. */
static void send_waiting(vr_nfc_flow *flow)
{
   if (flow->sending) {
      return;
   }
   flow->sending = true;
   while (may_send(flow)) {
      vr_nfc_request *r = take_at(&flow->waiting, &flow->waiting.head);
      r->op_id = flow->link.session.next_op_id++;
      r->sending = true;
      append(&flow->sent, r);
      flow->in_flight++;
      flow->writes_in_flight += r->kind == VR_NFC_WRITE;
      flow->bytes_in_flight += bytes_of(r);
      if (!r->next && flow->sent.head == r) {
         pthread_cond_signal(&flow->arrived); /* the receiver was idle */
      }
      pthread_mutex_unlock(&flow->lock);
      VixError err = vr_request_send(&flow->link.session, r, &flow->to_send,
         vr_now_ms() + time_limit(flow, r->kind));
      pthread_mutex_lock(&flow->lock);
      r->sending = false;
      if (flow->answered) {
         pthread_cond_signal(&flow->arrived);
      }
      if (err != VIX_OK) {
         lose(flow, err);
      }
   }
   flow->sending = false;
   if (flow->broken) {
      pthread_cond_signal(&flow->arrived);
   }
}

static void *send_later(void *data)
{
   vr_nfc_flow *flow = data;
   pthread_mutex_lock(&flow->lock);
   while (!flow->stopping) {
      int64_t pause_ms = flow->paused_until_ms - vr_now_ms();
      if (may_send(flow) && !flow->sending && pause_ms <= 0) {
         send_waiting(flow);
      } else if (may_send(flow) && !flow->sending) {
         struct timespec until;
         clock_gettime(CLOCK_MONOTONIC, &until);
         until.tv_sec += pause_ms / 1000;
         until.tv_nsec += pause_ms % 1000 * 1000000;
         until.tv_sec += until.tv_nsec / 1000000000;
         until.tv_nsec %= 1000000000;
         pthread_cond_timedwait(&flow->room, &flow->lock, &until);
      } else {
         pthread_cond_wait(&flow->room, &flow->lock);
      }
   }
   pthread_mutex_unlock(&flow->lock);
   return NULL;
}

/* -- a host that is short of memory -- */

/* Asks for less at once from now on; false where less is not possible. */
static bool shrink(vr_nfc_flow *flow, const vr_nfc_request *r)
{
   if ((int32_t)(r->op_id - flow->shrunk_at) < 0) {
      return true; /* it was sent before the last time */
   }
   if (flow->window <= VR_BUFFER_MIN && flow->request_bytes <= VR_BUFFER_MIN) {
      return false;
   }
   flow->window = flow->window / 2 > VR_BUFFER_MIN ? flow->window / 2 : VR_BUFFER_MIN;
   flow->request_bytes =
      flow->request_bytes / 2 > VR_BUFFER_MIN ? flow->request_bytes / 2 : VR_BUFFER_MIN;
   flow->shrunk_at = flow->link.session.next_op_id;
   flow->paused_until_ms = vr_now_ms() + flow->link.target.config.reconnect_wait_ms;
   vr_warn("%s is short of memory; going on with %llu bytes in flight and requests of %u\n",
      flow->link.host, (unsigned long long)flow->window, flow->request_bytes);
   return true;
}

/* Lets a refused request wait again, in pieces of the present size. False without memory. */
static bool wait_again(vr_nfc_flow *flow, vr_nfc_request *r)
{
   while (r->length > flow->request_bytes) {
      uint32_t cut = (r->length - 1) / flow->request_bytes * flow->request_bytes;
      vr_nfc_request *rest = vr_flow_request(r->kind, r->offset + cut, r->length - cut,
         r->data + cut);
      if (!rest) {
         return false;
      }
      rest->job = r->job;
      rest->piece = r->piece;
      rest->missing = rest->length;
      rest->job->pending++;
      prepend(&flow->waiting, rest);
      r->length = cut;
   }
   vr_request_forget(r);
   prepend(&flow->waiting, r);
   pthread_cond_signal(&flow->room);
   return true;
}

/* -- receiving -- */

static void end_request(vr_nfc_flow *flow, vr_nfc_request *r)
{
   flow->losses = 0;
   VixError result = r->result;
   if (result == VIX_E_OUT_OF_MEMORY && is_io(r) && !r->job->keeps_requests && shrink(flow, r)
      && wait_again(flow, r)) {
      return;
   }
   if (result != VIX_OK && r->job->pending > 1) {
      leave_out(flow, r->job);
   }
   settle(flow, r, result);
}

static VixError receive_one(vr_nfc_flow *flow, unsigned limit_ms)
{
   vr_nfc_session *s = &flow->link.session;
   uint8_t payload[VR_REPLY_MAX];
   vr_nfc_header header;
   VixError err = vr_session_receive(s, vr_now_ms() + limit_ms, &header, payload);
   if (err != VIX_OK) {
      return err;
   }
   int64_t deadline_ms = vr_now_ms() + limit_ms;
   pthread_mutex_lock(&flow->lock);
   vr_nfc_request **at = find(&flow->sent, header.op_id);
   vr_nfc_request *r = at ? *at : NULL;
   pthread_mutex_unlock(&flow->lock);
   if (!r) {
      return vr_session_was_refused(s, header.op_id)
         ? vr_session_skip(s, &header, payload, deadline_ms)
         : vr_session_broken(s, "waiting for a reply", "one to a request that was not made");
   }
   err = vr_request_take(s, r, &flow->to_receive, &header, payload, deadline_ms);
   if (err != VIX_OK || !r->done) {
      return err;
   }
   pthread_mutex_lock(&flow->lock);
   while (r->sending) { /* answered before it was sent whole: its data is still in use */
      flow->answered = true;
      pthread_cond_wait(&flow->arrived, &flow->lock);
   }
   flow->answered = false;
   take_sent(flow, find(&flow->sent, header.op_id));
   end_request(flow, r);
   if (may_send(flow)) {
      pthread_cond_signal(&flow->room);
   }
   pthread_mutex_unlock(&flow->lock);
   return VIX_OK;
}

/* -- after a loss; lock held -- */

static void take_back_sent(vr_nfc_flow *flow, VixError cause)
{
   vr_nfc_list back;
   list_init(&back);
   while (flow->sent.head) {
      vr_nfc_request *r = take_sent(flow, &flow->sent.head);
      vr_request_forget(r);
      if (r->kind == VR_NFC_CLOSE) {
         settle(flow, r, cause); /* its disk is closed with the connection */
      } else {
         append(&back, r);
      }
   }
   *back.tail = flow->waiting.head;
   if (flow->waiting.head) {
      back.tail = flow->waiting.tail;
   }
   flow->waiting.head = back.head;
   flow->waiting.tail = back.head ? back.tail : &flow->waiting.head;
}

static void sleep_ms(unsigned ms)
{
   struct timespec left = {ms / 1000, (long)(ms % 1000) * 1000000};
   while (nanosleep(&left, &left) != 0 && errno == EINTR) {
   }
}

/* Called without the lock. */
static VixError check_reopened(vr_nfc_flow *flow, uint64_t capacity)
{
   uint64_t found = flow->link.session.file.capacity_bytes;
   if (found != capacity) {
      vr_warn("%s: %s has %llu bytes now, not %llu\n", flow->link.host, flow->link.target.path,
         (unsigned long long)found, (unsigned long long)capacity);
      return VIX_E_DISK_OUTOFRANGE;
   }
   pthread_mutex_lock(&flow->lock);
   VixError (*check)(void *) = flow->on_reopen;
   void *check_data = flow->on_reopen_data;
   pthread_mutex_unlock(&flow->lock);
   return check ? check(check_data) : VIX_OK;
}

/* Connects again, as often as the settings allow. Called without the lock. */
static VixError reopen(vr_nfc_flow *flow, VixError cause)
{
   const vr_nfc_config *config = &flow->link.target.config;
   uint64_t capacity = flow->link.session.file.capacity_bytes;
   vr_nfc_link_close(&flow->link, false);
   for (;;) {
      if (++flow->losses > config->reconnects) {
         return cause;
      }
      uint64_t wait_ms = vr_min((uint64_t)config->reconnect_wait_ms << (flow->losses - 1),
         WAIT_MAX_MS);
      vr_warn("%s: the connection to %s was lost (error %u); connecting again in %llu ms (%u)\n",
         flow->link.target.path, flow->link.host, (unsigned)VIX_ERROR_CODE(cause),
         (unsigned long long)wait_ms, flow->losses);
      sleep_ms((unsigned)wait_ms);
      VixError err = vr_nfc_link_open(&flow->link);
      if (err == VIX_OK) {
         err = check_reopened(flow, capacity);
         if (err != VIX_OK) {
            vr_nfc_link_close(&flow->link, false);
         }
         return err;
      }
      if (!vr_nfc_link_may_pass(err)) {
         return err;
      }
      cause = err;
   }
}

static void recover(vr_nfc_flow *flow)
{
   while (flow->sending) {
      pthread_cond_wait(&flow->arrived, &flow->lock);
   }
   VixError cause = flow->cause;
   take_back_sent(flow, cause);
   if (!flow->waiting.head) {
      return; /* connected again when there is something to do */
   }
   pthread_mutex_unlock(&flow->lock);
   VixError err = reopen(flow, cause);
   pthread_mutex_lock(&flow->lock);
   if (err == VIX_OK) {
      flow->broken = false;
      flow->shrunk_at = 0;
      pthread_cond_signal(&flow->room);
   } else {
      flow->dead = err;
      fail_waiting(flow, err);
   }
}

static void *receive_all(void *data)
{
   vr_nfc_flow *flow = data;
   pthread_mutex_lock(&flow->lock);
   while (!flow->stopping || flow->sent.head) {
      if (flow->broken && !flow->dead && (flow->sent.head || flow->waiting.head)) {
         recover(flow);
      } else if (flow->broken || !flow->sent.head) {
         pthread_cond_wait(&flow->arrived, &flow->lock);
      } else {
         unsigned limit_ms = time_limit(flow,
            flow->writes_in_flight ? VR_NFC_WRITE : flow->sent.head->kind);
         pthread_mutex_unlock(&flow->lock);
         VixError err = receive_one(flow, limit_ms);
         pthread_mutex_lock(&flow->lock);
         if (err != VIX_OK) {
            lose(flow, err);
         }
      }
   }
   pthread_mutex_unlock(&flow->lock);
   return NULL;
}

/* -- for callers -- */

static bool make_packing(vr_nfc_packing *packing, uint32_t compression)
{
   packing->compression = compression;
   packing->packed = compression ? malloc(VR_BUFFER_MAX) : NULL;
   return !compression || packing->packed;
}

static void destroy(vr_nfc_flow *flow)
{
   free(flow->to_send.packed);
   free(flow->to_receive.packed);
   free(flow->link.host);
   pthread_cond_destroy(&flow->arrived);
   pthread_cond_destroy(&flow->room);
   pthread_cond_destroy(&flow->ended);
   pthread_mutex_destroy(&flow->lock);
}

static void end_threads(vr_nfc_flow *flow, unsigned count)
{
   pthread_mutex_lock(&flow->lock);
   flow->stopping = true;
   pthread_cond_signal(&flow->arrived);
   pthread_cond_signal(&flow->room);
   pthread_mutex_unlock(&flow->lock);
   if (count > 0) {
      pthread_join(flow->receiver, NULL);
   }
   if (count > 1) {
      pthread_join(flow->sender, NULL);
   }
}

VixError vr_flow_start(vr_nfc_flow *flow, const vr_nfc_target *target)
{
   *flow = (vr_nfc_flow){
      .link.target = *target,
      .window = target->config.in_flight_bytes,
      .request_bytes = VR_REQUEST_MAX,
   };
   list_init(&flow->waiting);
   list_init(&flow->sent);
   pthread_condattr_t monotonic;
   pthread_condattr_init(&monotonic);
   pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
   pthread_mutex_init(&flow->lock, NULL);
   pthread_cond_init(&flow->arrived, NULL);
   pthread_cond_init(&flow->room, &monotonic);
   pthread_cond_init(&flow->ended, NULL);
   pthread_condattr_destroy(&monotonic);
   VixError err = make_packing(&flow->to_send, target->compression)
         && make_packing(&flow->to_receive, target->compression)
      ? vr_nfc_link_open(&flow->link)
      : VIX_E_OUT_OF_MEMORY;
   if (err == VIX_OK) {
      unsigned threads = 0;
      if (pthread_create(&flow->receiver, NULL, receive_all, flow) == 0) {
         threads += 1 + (pthread_create(&flow->sender, NULL, send_later, flow) == 0);
      }
      if (threads < 2) {
         end_threads(flow, threads);
         vr_nfc_link_close(&flow->link, false);
         err = VIX_E_OUT_OF_MEMORY;
      }
   }
   if (err != VIX_OK) {
      destroy(flow);
   }
   return err;
}

VixError vr_flow_submit(vr_nfc_flow *flow, vr_nfc_job *job, vr_nfc_request *requests)
{
   pthread_mutex_lock(&flow->lock);
   VixError dead = flow->dead;
   if (dead == VIX_OK) {
      job->failed_piece = SIZE_MAX;
      flow->jobs++;
      for (vr_nfc_request *r = requests; r;) {
         vr_nfc_request *next = r->next;
         vr_request_forget(r);
         r->job = job;
         job->pending++;
         append(&flow->waiting, r);
         r = next;
      }
      if (flow->broken) {
         pthread_cond_signal(&flow->arrived);
      } else if (flow->paused_until_ms > vr_now_ms()) {
         pthread_cond_signal(&flow->room);
      } else {
         send_waiting(flow);
      }
   }
   pthread_mutex_unlock(&flow->lock);
   return dead;
}

void vr_flow_wait(vr_nfc_flow *flow, vr_nfc_job *job)
{
   pthread_mutex_lock(&flow->lock);
   while (!job->finished) {
      pthread_cond_wait(&flow->ended, &flow->lock);
   }
   pthread_mutex_unlock(&flow->lock);
}

void vr_flow_wait_all(vr_nfc_flow *flow)
{
   pthread_mutex_lock(&flow->lock);
   while (flow->jobs) {
      pthread_cond_wait(&flow->ended, &flow->lock);
   }
   pthread_mutex_unlock(&flow->lock);
}

VixError vr_flow_stop(vr_nfc_flow *flow)
{
   vr_flow_wait_all(flow);
   pthread_mutex_lock(&flow->lock);
   bool whole = !flow->broken;
   VixError err = flow->dead != VIX_OK ? flow->dead : flow->broken ? flow->cause : VIX_OK;
   pthread_mutex_unlock(&flow->lock);
   if (whole) {
      vr_nfc_request close = {.kind = VR_NFC_CLOSE};
      vr_nfc_job job = {.keeps_requests = true};
      err = vr_flow_submit(flow, &job, &close);
      if (err == VIX_OK) {
         vr_flow_wait(flow, &job);
         err = job.result;
         vr_request_forget(&close);
      }
   }
   end_threads(flow, 2);
   whole = whole && !flow->broken;
   vr_nfc_link_close(&flow->link, whole);
   destroy(flow);
   return err;
}
