/*
 * OpenSSL 3, loaded when the first connection needs it.
 *
 * The headers of OpenSSL are not needed to build the library. The functions below are declared here
 * as the manual pages of OpenSSL 3.0 declare them; OpenSSL keeps the ABI of libssl.so.3 for all
 * versions of 3.
 */
#ifndef VR_OPENSSL_H
#define VR_OPENSSL_H

#include <stddef.h>
#include <stdint.h>

typedef struct ssl_ctx_st SSL_CTX;
typedef struct ssl_st SSL;
typedef struct bio_st BIO;
typedef struct bio_method_st BIO_METHOD;
typedef struct x509_st X509;
typedef struct x509_store_st X509_STORE;
typedef struct x509_store_ctx_st X509_STORE_CTX;
typedef struct x509_param_st X509_VERIFY_PARAM;
typedef struct evp_md_st EVP_MD;
typedef struct stack_st OPENSSL_STACK;

/* result, name, parameters */
#define VR_LIBSSL(f) \
   f(const void *, TLS_client_method, (void)) \
   f(SSL_CTX *, SSL_CTX_new, (const void *method)) \
   f(long, SSL_CTX_ctrl, (SSL_CTX *, int cmd, long larg, void *parg)) \
   f(uint64_t, SSL_CTX_set_options, (SSL_CTX *, uint64_t options)) \
   f(int, SSL_CTX_set_cipher_list, (SSL_CTX *, const char *list)) \
   f(SSL *, SSL_new, (SSL_CTX *)) \
   f(void, SSL_free, (SSL *)) \
   f(uint64_t, SSL_set_options, (SSL *, uint64_t options)) \
   f(long, SSL_ctrl, (SSL *, int cmd, long larg, void *parg)) \
   f(void, SSL_set_bio, (SSL *, BIO *read, BIO *write)) \
   f(int, SSL_connect, (SSL *)) \
   f(int, SSL_read, (SSL *, void *buf, int bytes)) \
   f(int, SSL_write, (SSL *, const void *buf, int bytes)) \
   f(int, SSL_get_error, (const SSL *, int result)) \
   f(X509 *, SSL_get1_peer_certificate, (const SSL *)) \
   f(OPENSSL_STACK *, SSL_get_peer_cert_chain, (const SSL *))

#define VR_LIBCRYPTO(f) \
   f(const char *, OpenSSL_version, (int what)) \
   f(void, ERR_clear_error, (void)) \
   f(unsigned long, ERR_peek_error, (void)) \
   f(void, ERR_error_string_n, (unsigned long error, char *buf, size_t bytes)) \
   f(int, BIO_get_new_index, (void)) \
   f(BIO_METHOD *, BIO_meth_new, (int type, const char *name)) \
   f(int, BIO_meth_set_write, (BIO_METHOD *, int (*)(BIO *, const char *, int))) \
   f(int, BIO_meth_set_read, (BIO_METHOD *, int (*)(BIO *, char *, int))) \
   f(int, BIO_meth_set_ctrl, (BIO_METHOD *, long (*)(BIO *, int, long, void *))) \
   f(BIO *, BIO_new, (const BIO_METHOD *)) \
   f(int, BIO_free, (BIO *)) \
   f(void, BIO_set_data, (BIO *, void *)) \
   f(void *, BIO_get_data, (BIO *)) \
   f(void, BIO_set_init, (BIO *, int)) \
   f(void, BIO_set_flags, (BIO *, int)) \
   f(void, BIO_clear_flags, (BIO *, int)) \
   f(int, X509_digest, (const X509 *, const EVP_MD *, unsigned char *md, unsigned *bytes)) \
   f(void, X509_free, (X509 *)) \
   f(X509_STORE *, X509_STORE_new, (void)) \
   f(void, X509_STORE_free, (X509_STORE *)) \
   f(int, X509_STORE_set_default_paths, (X509_STORE *)) \
   f(X509_STORE_CTX *, X509_STORE_CTX_new, (void)) \
   f(void, X509_STORE_CTX_free, (X509_STORE_CTX *)) \
   f(int, X509_STORE_CTX_init, (X509_STORE_CTX *, X509_STORE *, X509 *, OPENSSL_STACK *)) \
   f(int, X509_STORE_CTX_set_default, (X509_STORE_CTX *, const char *name)) \
   f(X509_VERIFY_PARAM *, X509_STORE_CTX_get0_param, (const X509_STORE_CTX *)) \
   f(int, X509_STORE_CTX_get_error, (const X509_STORE_CTX *)) \
   f(int, X509_VERIFY_PARAM_set1_host, (X509_VERIFY_PARAM *, const char *name, size_t length)) \
   f(int, X509_VERIFY_PARAM_set1_ip_asc, (X509_VERIFY_PARAM *, const char *address)) \
   f(int, X509_verify_cert, (X509_STORE_CTX *)) \
   f(const char *, X509_verify_cert_error_string, (long error)) \
   f(int, EVP_Digest, (const void *, size_t bytes, unsigned char *md, unsigned *md_bytes, \
      const EVP_MD *, void *engine)) \
   f(const EVP_MD *, EVP_sha1, (void)) \
   f(const EVP_MD *, EVP_sha256, (void))

typedef struct {
#define VR_MEMBER(result, name, parameters) result(*name) parameters;
   VR_LIBSSL(VR_MEMBER)
   VR_LIBCRYPTO(VR_MEMBER)
#undef VR_MEMBER
} vr_openssl;

/* Values of OpenSSL's macros. */
#define VR_SSL_ERROR_SSL 1
#define VR_SSL_ERROR_WANT_READ 2
#define VR_SSL_ERROR_WANT_WRITE 3
#define VR_SSL_ERROR_ZERO_RETURN 6
#define VR_SSL_CTRL_MODE 33
#define VR_SSL_CTRL_SET_TLSEXT_HOSTNAME 55
#define VR_SSL_CTRL_SET_MIN_PROTO_VERSION 123
#define VR_SSL_MODE_ENABLE_PARTIAL_WRITE 0x1L
#define VR_SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER 0x2L
#define VR_SSL_OP_CLEANSE_PLAINTEXT (1ul << 1)
#define VR_SSL_OP_NO_RENEGOTIATION (1ul << 30)
#define VR_TLS1_2 0x0303L
#define VR_BIO_TYPE_SOURCE_SINK 0x0400
#define VR_BIO_FLAGS_READ 0x01
#define VR_BIO_FLAGS_WRITE 0x02
#define VR_BIO_FLAGS_SHOULD_RETRY 0x08
#define VR_BIO_CTRL_FLUSH 11
#define VR_X509_V_OK 0

/* The functions, or NULL where OpenSSL 3 cannot be loaded. The first call loads it. */
const vr_openssl *vr_openssl_get(void);
/* The version of OpenSSL, or why there is none and the remedy. Valid for the life of the process. */
const char *vr_openssl_text(void);

#endif
