#include "net/tls.h"

#include "net/openssl.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TLS_READ_MAX (1 << 20) /* SSL_read counts in int */

struct vr_tls {
   const vr_openssl *o;
   vr_socket *socket;
   SSL *ssl;
   char why[256];
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static BIO_METHOD *method;
static SSL_CTX *contexts[2]; /* [1]: security level 1 */

static int bio_moved(BIO *bio, long moved, int flag)
{
   const vr_openssl *o = vr_openssl_get();
   o->BIO_clear_flags(bio, VR_BIO_FLAGS_READ | VR_BIO_FLAGS_WRITE | VR_BIO_FLAGS_SHOULD_RETRY);
   if (moved == VR_SOCKET_AGAIN) {
      o->BIO_set_flags(bio, flag | VR_BIO_FLAGS_SHOULD_RETRY);
   }
   return moved < 0 ? -1 : (int)moved;
}

static int bio_read(BIO *bio, char *buf, int bytes)
{
   vr_socket *s = vr_openssl_get()->BIO_get_data(bio);
   return bio_moved(bio, vr_socket_read(s, buf, bytes > 0 ? (size_t)bytes : 0), VR_BIO_FLAGS_READ);
}

static int bio_write(BIO *bio, const char *buf, int bytes)
{
   vr_socket *s = vr_openssl_get()->BIO_get_data(bio);
   return bio_moved(bio, vr_socket_write(s, buf, bytes > 0 ? (size_t)bytes : 0), VR_BIO_FLAGS_WRITE);
}

static long bio_ctrl(BIO *bio, int cmd, long larg, void *parg)
{
   (void)bio;
   (void)larg;
   (void)parg;
   return cmd == VR_BIO_CTRL_FLUSH; /* nothing is held back; other commands are not known */
}

/* Certificates are checked by the caller, who knows the thumbprint: OpenSSL's own verification is
 * off by default for a client's context. */
static SSL_CTX *new_context(const vr_openssl *o, bool legacy)
{
   SSL_CTX *c = o->SSL_CTX_new(o->TLS_client_method());
   if (c) {
      o->SSL_CTX_ctrl(c, VR_SSL_CTRL_SET_MIN_PROTO_VERSION, VR_TLS1_2, NULL);
      o->SSL_CTX_ctrl(c, VR_SSL_CTRL_MODE,
         VR_SSL_MODE_ENABLE_PARTIAL_WRITE | VR_SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER, NULL);
      /* A renegotiation would have a write read from the socket. */
      o->SSL_CTX_set_options(c, VR_SSL_OP_NO_RENEGOTIATION);
      if (legacy) {
         o->SSL_CTX_set_cipher_list(c, "DEFAULT:@SECLEVEL=1");
      }
   }
   return c;
}

static void prepare(void)
{
   const vr_openssl *o = vr_openssl_get();
   if (o) {
      method = o->BIO_meth_new(o->BIO_get_new_index() | VR_BIO_TYPE_SOURCE_SINK, "vreplica socket");
      if (method) {
         o->BIO_meth_set_read(method, bio_read);
         o->BIO_meth_set_write(method, bio_write);
         o->BIO_meth_set_ctrl(method, bio_ctrl);
      }
      contexts[0] = new_context(o, false);
      contexts[1] = new_context(o, true);
   }
}

static bool is_address(const char *host)
{
   uint8_t address[16];
   return inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
}

static long failed(vr_tls *t, int result)
{
   const vr_openssl *o = t->o;
   int kind = o->SSL_get_error(t->ssl, result);
   if (kind == VR_SSL_ERROR_WANT_READ) {
      return VR_TLS_WANTS_READ;
   }
   if (kind == VR_SSL_ERROR_WANT_WRITE) {
      return VR_TLS_WANTS_WRITE;
   }
   unsigned long code = o->ERR_peek_error();
   if (kind == VR_SSL_ERROR_SSL && code) {
      o->ERR_error_string_n(code, t->why, sizeof t->why);
   } else {
      snprintf(t->why, sizeof t->why, "%s",
         kind == VR_SSL_ERROR_ZERO_RETURN || !t->socket->error ? "the peer has closed the connection"
                                                               : strerror(t->socket->error));
   }
   o->ERR_clear_error();
   return VR_TLS_FAILED;
}

vr_tls *vr_tls_new(vr_socket *socket, const char *name, bool legacy)
{
   pthread_once(&once, prepare);
   const vr_openssl *o = vr_openssl_get();
   vr_tls *t = o && method && contexts[legacy] ? calloc(1, sizeof *t) : NULL;
   if (!t) {
      return NULL;
   }
   t->o = o;
   t->socket = socket;
   t->ssl = o->SSL_new(contexts[legacy]);
   BIO *bio = o->BIO_new(method);
   if (!t->ssl || !bio) {
      o->BIO_free(bio);
      vr_tls_free(t);
      return NULL;
   }
   o->BIO_set_data(bio, socket);
   o->BIO_set_init(bio, 1);
   o->SSL_set_bio(t->ssl, bio, bio); /* which owns it now */
   if (name && *name && !is_address(name)) {
      char *copy = strdup(name); /* OpenSSL takes it as void * and copies it */
      if (copy) {
         o->SSL_ctrl(t->ssl, VR_SSL_CTRL_SET_TLSEXT_HOSTNAME, 0, copy);
         free(copy);
      }
   }
   return t;
}

int vr_tls_handshake(vr_tls *t)
{
   t->o->ERR_clear_error();
   int result = t->o->SSL_connect(t->ssl);
   return result == 1 ? 1 : (int)failed(t, result);
}

long vr_tls_read(vr_tls *t, void *buf, size_t bytes)
{
   t->o->ERR_clear_error();
   int got = t->o->SSL_read(t->ssl, buf, bytes < TLS_READ_MAX ? (int)bytes : TLS_READ_MAX);
   return got > 0 ? got : failed(t, got);
}

long vr_tls_write(vr_tls *t, const void *buf, size_t bytes)
{
   t->o->ERR_clear_error();
   int put = t->o->SSL_write(t->ssl, buf, bytes < TLS_READ_MAX ? (int)bytes : TLS_READ_MAX);
   return put > 0 ? put : failed(t, put);
}

const char *vr_tls_why(const vr_tls *t)
{
   return t->why;
}

bool vr_tls_peer(const vr_tls *t, vr_peer *peer)
{
   const vr_openssl *o = t->o;
   X509 *leaf = o->SSL_get1_peer_certificate(t->ssl);
   unsigned sha1 = 0;
   unsigned sha256 = 0;
   bool good = leaf && o->X509_digest(leaf, o->EVP_sha1(), peer->sha1, &sha1) == 1
      && o->X509_digest(leaf, o->EVP_sha256(), peer->sha256, &sha256) == 1
      && sha1 == VR_SHA1_BYTES && sha256 == VR_SHA256_BYTES;
   if (leaf) {
      o->X509_free(leaf);
   }
   return good;
}

static bool verify(vr_tls *t, X509 *leaf, X509_STORE *store, X509_STORE_CTX *check, const char *host)
{
   const vr_openssl *o = t->o;
   if (o->X509_STORE_set_default_paths(store) != 1
      || o->X509_STORE_CTX_init(check, store, leaf, o->SSL_get_peer_cert_chain(t->ssl)) != 1
      || o->X509_STORE_CTX_set_default(check, "ssl_server") != 1) {
      return false;
   }
   X509_VERIFY_PARAM *param = o->X509_STORE_CTX_get0_param(check);
   if ((is_address(host) ? o->X509_VERIFY_PARAM_set1_ip_asc(param, host)
                         : o->X509_VERIFY_PARAM_set1_host(param, host, 0)) != 1) {
      return false;
   }
   if (o->X509_verify_cert(check) == 1) {
      return true;
   }
   snprintf(t->why, sizeof t->why, "%s",
      o->X509_verify_cert_error_string(o->X509_STORE_CTX_get_error(check)));
   return false;
}

bool vr_tls_verify(vr_tls *t, const char *host)
{
   const vr_openssl *o = t->o;
   X509 *leaf = o->SSL_get1_peer_certificate(t->ssl);
   X509_STORE *store = o->X509_STORE_new();
   X509_STORE_CTX *check = o->X509_STORE_CTX_new();
   snprintf(t->why, sizeof t->why, "the certificate cannot be verified");
   bool good = leaf && store && check && verify(t, leaf, store, check, host);
   o->X509_STORE_CTX_free(check);
   o->X509_STORE_free(store);
   o->X509_free(leaf);
   o->ERR_clear_error();
   return good;
}

void vr_tls_cleanse(vr_tls *t)
{
   t->o->SSL_set_options(t->ssl, VR_SSL_OP_CLEANSE_PLAINTEXT);
}

void vr_tls_free(vr_tls *t)
{
   if (t) {
      t->o->SSL_free(t->ssl);
      free(t);
   }
}
