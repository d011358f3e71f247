/*
 * Calls of the vSphere API over SOAP.
 *
 *    vr_text body = {0};
 *    vr_soap_begin(&body, "Logout", "SessionManager", "SessionManager");
 *    vr_soap_call(&soap, &body, "Logout", &answer)      -> VIX_OK and answer.result, or a fault
 */
#ifndef VR_SOAP_H
#define VR_SOAP_H

#include "vim/http.h"
#include "vim/xml.h"

typedef struct {
   vr_http *http;
   char version[48]; /* SOAPAction: "urn:vim25", then with the version of the server's API */
   char *cookie;     /* NULL: no session yet; wiped and freed by the owner */
   unsigned timeout_ms;
} vr_soap;

typedef struct {
   vr_http_answer http; /* whose body holds the texts below */
   vr_xml xml;
   const vr_xml_node *result; /* the method's response element; NULL after a fault */
   char fault[64];            /* "InvalidLogin" ..., "" where there is none */
   const char *fault_text;
   const char *fault_object;    /* moref of ManagedObjectNotFound, "" */
   const char *fault_privilege; /* of NoPermission, "" */
} vr_soap_answer;

/* Starts a request: the method and the object that it is called on. */
void vr_soap_begin(vr_text *body, const char *method, const char *type, const char *moref);
/* Adds <name>value</name>, escaped, and <name type="type">moref</name>. */
void vr_soap_value(vr_text *body, const char *name, const char *value);
void vr_soap_reference(vr_text *body, const char *name, const char *type, const char *moref);
/* Ends the request, sends it, reads the answer. The text stays good for another call. A fault gives
 * its VIX error and is not logged. Free the answer in every case. */
VixError vr_soap_call(vr_soap *s, vr_text *body, const char *method, vr_soap_answer *out);
/* Reads an answer of HTTP, which is in out->http. */
VixError vr_soap_read(const char *method, vr_soap_answer *out);
void vr_soap_answer_free(vr_soap_answer *a);
/* The VIX error for a fault of vSphere. */
VixError vr_soap_fault_error(const char *fault);

#endif
