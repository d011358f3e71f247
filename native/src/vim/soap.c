#include "vim/soap.h"

#include "os/log.h"
#include "os/secret.h"

#include <stdio.h>

#define PATH "/sdk"
#define NO_ANSWER {.fault_text = "", .fault_object = "", .fault_privilege = ""}
#define TAIL "</soapenv:Body></soapenv:Envelope>"

void vr_soap_begin(vr_text *body, const char *method, const char *type, const char *moref)
{
   vr_text_addf(body,
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?><soapenv:Envelope "
      "xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\" "
      "xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"><soapenv:Body>"
      "<%s xmlns=\"urn:vim25\">", method);
   vr_soap_reference(body, "_this", type, moref);
}

void vr_soap_value(vr_text *body, const char *name, const char *value)
{
   vr_text_addf(body, "<%s>", name);
   vr_text_xml(body, value);
   vr_text_addf(body, "</%s>", name);
}

void vr_soap_reference(vr_text *body, const char *name, const char *type, const char *moref)
{
   vr_text_addf(body, "<%s type=\"%s\">", name, type);
   vr_text_xml(body, moref);
   vr_text_addf(body, "</%s>", name);
}

static const struct {
   const char *fault;
   VixError error;
} errors[] = {
   {"InvalidLogin", VIX_E_AUTHENTICATION_FAIL},
   {"PasswordExpired", VIX_E_AUTHENTICATION_FAIL},
   {"NotAuthenticated", VIX_E_AUTHENTICATION_FAIL},
   {"NoPermission", VIX_E_HOST_USER_PERMISSIONS},
   {"RestrictedByAdministrator", VIX_E_HOST_USER_PERMISSIONS},
   {"ManagedObjectNotFound", VIX_E_VM_NOT_FOUND},
   {"MethodDisabled", VIX_E_OPERATION_DISABLED},
   {"TaskInProgress", VIX_E_OPERATION_ALREADY_IN_PROGRESS},
   {"ConcurrentAccess", VIX_E_OPERATION_ALREADY_IN_PROGRESS},
   {"ResourceInUse", VIX_E_OBJECT_IS_BUSY},
   {"InvalidState", VIX_E_OBJECT_IS_BUSY},
   {"InvalidPowerState", VIX_E_VM_IS_RUNNING},
   {"HostNotConnected", VIX_E_HOST_NOT_CONNECTED},
   {"HostNotReachable", VIX_E_HOST_NOT_CONNECTED},
   {"HostCommunication", VIX_E_HOST_NOT_CONNECTED},
   {"HostConnectFault", VIX_E_HOST_NOT_CONNECTED},
   {"DisconnectedHostsBlockingEVC", VIX_E_HOST_NOT_CONNECTED},
   {"InvalidHostConnectionState", VIX_E_HOST_NOT_CONNECTED},
   {"FileNotFound", VIX_E_FILE_NOT_FOUND},
   {"FileLocked", VIX_E_FILE_ALREADY_LOCKED},
   {"FileFault", VIX_E_FILE_ERROR},
   {"CannotAccessFile", VIX_E_FILE_ACCESS_ERROR},
   {"InvalidDatastore", VIX_E_FILE_NAME_INVALID},
   {"InvalidDatastorePath", VIX_E_FILE_NAME_INVALID},
   {"NoDiskSpace", VIX_E_DISK_FULL},
   {"RestrictedVersion", VIX_E_LICENSE},
   {"NotEnoughLicenses", VIX_E_LICENSE},
   {"LicenseExpired", VIX_E_LICENSE},
   {"NotSupported", VIX_E_NOT_SUPPORTED},
   {"MethodNotFound", VIX_E_NOT_SUPPORTED},
   {"NotImplemented", VIX_E_NOT_SUPPORTED},
   {"InvalidArgument", VIX_E_INVALID_ARG},
   {"InvalidRequest", VIX_E_INVALID_ARG},
   {"InvalidType", VIX_E_INVALID_ARG},
   {"RequestCanceled", VIX_E_CANCELLED},
};

VixError vr_soap_fault_error(const char *fault)
{
   for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
      if (!strcmp(errors[i].fault, fault)) {
         return errors[i].error;
      }
   }
   return VIX_E_FAIL;
}

static VixError read_fault(vr_soap_answer *out, const vr_xml_node *fault)
{
   const vr_xml_node *detail = vr_xml_first(&out->xml, vr_xml_child(&out->xml, fault, "detail"));
   const char *text = vr_xml_value(&out->xml, fault, "faultstring");
   const char *name = detail ? *detail->type ? detail->type : detail->name : "SystemError";
   size_t length = strlen(name);
   if (detail && !*detail->type && length > 5 && !strcmp(name + length - 5, "Fault")) {
      length -= 5;
   }
   snprintf(out->fault, sizeof out->fault, "%.*s", (int)(length < 63 ? length : 63), name);
   const char *object = vr_xml_value(&out->xml, detail, "obj");
   const char *privilege = vr_xml_value(&out->xml, detail, "privilegeId");
   out->fault_text = text ? text : "";
   out->fault_object = object ? object : "";
   out->fault_privilege = privilege ? privilege : "";
   return vr_soap_fault_error(out->fault);
}

VixError vr_soap_read(const char *method, vr_soap_answer *out)
{
   vr_text *body = &out->http.body;
   out->fault[0] = 0;
   out->fault_text = out->fault_object = out->fault_privilege = "";
   if (!body->at || !vr_xml_parse(body->at, body->length, &out->xml)) {
      return VIX_E_INVALID_XML;
   }
   const vr_xml_node *root = &out->xml.nodes[1];
   const vr_xml_node *found = vr_xml_first(&out->xml, vr_xml_child(&out->xml, root, "Body"));
   size_t length = strlen(method);
   if (strcmp(root->name, "Envelope") || !found) {
      return VIX_E_INVALID_XML;
   }
   if (!strcmp(found->name, "Fault")) {
      return read_fault(out, found);
   }
   if (out->http.status != 200 || strncmp(found->name, method, length)
      || strcmp(found->name + length, "Response")) {
      return VIX_E_INVALID_XML;
   }
   out->result = found;
   return VIX_OK;
}

static VixError of_status(unsigned status)
{
   return status == 401 || status == 403 ? VIX_E_AUTHENTICATION_FAIL
      : status == 503                    ? VIX_E_HOST_SERVER_NOT_AVAILABLE
                                         : VIX_E_CANNOT_CONNECT_TO_HOST;
}

VixError vr_soap_call(vr_soap *s, vr_text *body, const char *method, vr_soap_answer *out)
{
   *out = (vr_soap_answer)NO_ANSWER;
   size_t length = body->length;
   vr_text_addf(body, "</%s>%s", method, TAIL);
   VixError err = vr_http_post(s->http, PATH, s->version, s->cookie, body, s->timeout_ms, &out->http);
   if (!body->failed) {
      body->length = length;
      body->at[length] = 0;
   }
   if (err != VIX_OK) {
      return err;
   }
   if (out->http.status != 200 && out->http.status != 500) {
      vr_warn("%s is answered with HTTP status %u\n", method, out->http.status);
      return of_status(out->http.status);
   }
   err = vr_soap_read(method, out);
   if (err == VIX_E_INVALID_XML) {
      vr_warn("%s is answered with something that is not SOAP\n", method);
      err = VIX_E_CANNOT_CONNECT_TO_HOST;
   }
   return err;
}

void vr_soap_answer_free(vr_soap_answer *a)
{
   vr_xml_free(&a->xml);
   vr_http_answer_free(&a->http);
   *a = (vr_soap_answer)NO_ANSWER;
}
