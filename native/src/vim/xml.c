#include "vim/xml.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
   const char *name; /* as written, with its prefix */
   size_t length;
   uint32_t node;
   uint32_t last; /* child so far */
   char *text;    /* where its text starts */
   char *cursor;  /* where the next piece of it goes: never behind `at` */
} open_element;

typedef struct {
   char *at;
   char *end;
   vr_xml *out;
   open_element open[VR_XML_DEPTH];
   unsigned depth;
   bool root_seen;
} reader;

static bool is_space(char c)
{
   return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool is_name(char c)
{
   return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'
      || c == '-' || c == '.' || c == ':' || (unsigned char)c >= 0x80;
}

static void skip_space(reader *r)
{
   while (r->at < r->end && is_space(*r->at)) {
      r->at++;
   }
}

static bool starts(const reader *r, const char *text)
{
   size_t length = strlen(text);
   return (size_t)(r->end - r->at) >= length && !memcmp(r->at, text, length);
}

/* Skips to behind `text`. */
static bool skip_past(reader *r, const char *text)
{
   char *found = memmem(r->at, (size_t)(r->end - r->at), text, strlen(text));
   r->at = found ? found + strlen(text) : r->end;
   return found;
}

static char *local(char *name)
{
   char *colon = strrchr(name, ':');
   return colon ? colon + 1 : name;
}

static size_t put_utf8(char *out, uint32_t c)
{
   if (c < 0x80) {
      out[0] = (char)c;
      return 1;
   }
   if (c < 0x800) {
      out[0] = (char)(0xc0 | c >> 6);
      out[1] = (char)(0x80 | (c & 0x3f));
      return 2;
   }
   if (c < 0x10000) {
      out[0] = (char)(0xe0 | c >> 12);
      out[1] = (char)(0x80 | (c >> 6 & 0x3f));
      out[2] = (char)(0x80 | (c & 0x3f));
      return 3;
   }
   out[0] = (char)(0xf0 | c >> 18);
   out[1] = (char)(0x80 | (c >> 12 & 0x3f));
   out[2] = (char)(0x80 | (c >> 6 & 0x3f));
   out[3] = (char)(0x80 | (c & 0x3f));
   return 4;
}

/* Decodes the entity at `in`, which ends before `end`; a reference is never shorter than what it
 * stands for. Returns its length, 0 for one that XML does not have. */
static size_t entity(const char *in, const char *end, char **out)
{
   static const struct {
      const char *name;
      char c;
   } known[] = {{"&lt;", '<'}, {"&gt;", '>'}, {"&amp;", '&'}, {"&quot;", '"'}, {"&apos;", '\''}};
   for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
      size_t length = strlen(known[i].name);
      if ((size_t)(end - in) >= length && !memcmp(in, known[i].name, length)) {
         *(*out)++ = known[i].c;
         return length;
      }
   }
   if (end - in < 4 || in[1] != '#') {
      return 0;
   }
   const char *p = in + 2;
   unsigned base = *p == 'x' ? 16 : 10;
   uint32_t c = 0;
   p += base == 16;
   const char *first = p;
   for (; p < end && *p != ';'; p++) {
      unsigned digit = *p >= '0' && *p <= '9' ? (unsigned)(*p - '0')
         : *p >= 'a' && *p <= 'f'             ? (unsigned)(*p - 'a' + 10)
         : *p >= 'A' && *p <= 'F'             ? (unsigned)(*p - 'A' + 10)
                                              : 99;
      if (digit >= base || c > 0x10ffff) {
         return 0;
      }
      c = c * base + digit;
   }
   if (p == end || p == first || !c || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) {
      return 0;
   }
   *out += put_utf8(*out, c);
   return (size_t)(p - in) + 1;
}

/* Copies text to *out, which is not behind it, and decodes its entities. */
static bool decode(const char *in, const char *end, char **out)
{
   while (in < end) {
      if (!*in) {
         return false;
      }
      if (*in == '&') {
         size_t length = entity(in, end, out);
         if (!length) {
            return false;
         }
         in += length;
      } else {
         *(*out)++ = *in++;
      }
   }
   return true;
}

static uint32_t new_node(vr_xml *x)
{
   if (x->count + 1 >= x->room) {
      uint32_t room = x->room ? x->room * 2 : 256;
      vr_xml_node *nodes = x->count < VR_XML_NODES ? realloc(x->nodes, room * sizeof *nodes) : NULL;
      if (!nodes) {
         return 0;
      }
      x->nodes = nodes;
      x->room = room;
   }
   x->nodes[++x->count] = (vr_xml_node){.name = "", .type = "", .text = ""};
   return x->count;
}

/* Takes the attributes of a start tag; keeps the one that is called type. */
static bool attributes(reader *r, char **type)
{
   for (;;) {
      char *before = r->at;
      skip_space(r);
      if (r->at < r->end && (*r->at == '>' || *r->at == '/')) {
         return true;
      }
      char *name = r->at;
      while (r->at < r->end && is_name(*r->at)) {
         r->at++;
      }
      char *name_end = r->at;
      skip_space(r);
      if (before == name || name == name_end || r->at == r->end || *r->at++ != '=') {
         return false;
      }
      skip_space(r);
      char quote = r->at < r->end ? *r->at++ : 0;
      char *value = r->at;
      char *value_end = quote == '"' || quote == '\''
         ? memchr(value, quote, (size_t)(r->end - value))
         : NULL;
      if (!value_end) {
         return false;
      }
      r->at = value_end + 1;
      *name_end = 0; /* the '=' or a space before it */
      if (!strcmp(local(name), "type")) {
         char *out = value;
         if (!decode(value, value_end, &out)) {
            return false;
         }
         *out = 0;
         *type = local(value);
      }
   }
}

static bool start_tag(reader *r)
{
   char *name = r->at;
   while (r->at < r->end && is_name(*r->at)) {
      r->at++;
   }
   char *name_end = r->at;
   char *type = NULL;
   if (name == name_end || !attributes(r, &type)) {
      return false;
   }
   bool empty = *r->at == '/';
   r->at += empty;
   if (r->at == r->end || *r->at++ != '>' || (!r->depth && r->root_seen)) {
      return false;
   }
   r->root_seen = true;
   uint32_t node = new_node(r->out);
   if (!node) {
      return false;
   }
   size_t length = (size_t)(name_end - name);
   *name_end = 0;
   r->out->nodes[node].name = local(name);
   r->out->nodes[node].type = type ? type : "";
   if (r->depth) {
      open_element *parent = &r->open[r->depth - 1];
      if (parent->last) {
         r->out->nodes[parent->last].next = node;
      } else {
         r->out->nodes[parent->node].child = node;
      }
      parent->last = node;
   }
   if (empty) {
      return true;
   }
   if (r->depth == VR_XML_DEPTH) {
      return false;
   }
   r->open[r->depth++] = (open_element){
      .name = name, .length = length, .node = node, .text = r->at, .cursor = r->at};
   return true;
}

static bool end_tag(reader *r)
{
   open_element *e = r->depth ? &r->open[r->depth - 1] : NULL;
   if (!e || (size_t)(r->end - r->at) < e->length || memcmp(r->at, e->name, e->length)) {
      return false;
   }
   r->at += e->length;
   skip_space(r);
   if (r->at == r->end || *r->at++ != '>') {
      return false;
   }
   if (!e->last) {
      *e->cursor = 0; /* on the end tag, at the latest, which has been read */
      r->out->nodes[e->node].text = e->text;
   }
   r->depth--;
   return true;
}

/* Text between tags. Outside of the root there may be spaces only. */
static bool text(reader *r, char *end, bool raw)
{
   open_element *e = r->depth ? &r->open[r->depth - 1] : NULL;
   char *at = r->at;
   r->at = end;
   if (!e) {
      while (at < end && is_space(*at)) {
         at++;
      }
      return at == end;
   }
   if (e->last) {
      return true; /* between the children; the place of the text is taken by their names */
   }
   if (raw) {
      memmove(e->cursor, at, (size_t)(end - at));
      e->cursor += end - at;
      return !memchr(at, 0, (size_t)(end - at));
   }
   return decode(at, end, &e->cursor);
}

static bool cdata(reader *r)
{
   char *end = memmem(r->at, (size_t)(r->end - r->at), "]]>", 3);
   if (!r->depth || !end || !text(r, end, true)) {
      return false;
   }
   r->at = end + 3;
   return true;
}

static bool markup(reader *r)
{
   r->at++;
   if (starts(r, "!--")) {
      r->at += 3;
      return skip_past(r, "-->");
   }
   if (starts(r, "![CDATA[")) {
      r->at += 8;
      return cdata(r);
   }
   if (starts(r, "?")) {
      return skip_past(r, "?>");
   }
   if (starts(r, "/")) {
      r->at++;
      return end_tag(r);
   }
   return start_tag(r); /* "!DOCTYPE" is no name */
}

static bool read_document(reader *r)
{
   while (r->at < r->end) {
      if (*r->at == '<') {
         if (!markup(r)) {
            return false;
         }
      } else {
         char *tag = memchr(r->at, '<', (size_t)(r->end - r->at));
         if (!text(r, tag ? tag : r->end, false)) {
            return false;
         }
      }
   }
   return r->root_seen && !r->depth;
}

bool vr_xml_parse(char *document, size_t bytes, vr_xml *out)
{
   reader r = {.at = document, .end = document + bytes, .out = out};
   *out = (vr_xml){0};
   if (starts(&r, "\xef\xbb\xbf")) {
      r.at += 3;
   }
   if (!read_document(&r)) {
      vr_xml_free(out);
      return false;
   }
   return true;
}

void vr_xml_free(vr_xml *x)
{
   free(x->nodes);
   *x = (vr_xml){0};
}

const vr_xml_node *vr_xml_first(const vr_xml *x, const vr_xml_node *node)
{
   return node && node->child ? &x->nodes[node->child] : NULL;
}

const vr_xml_node *vr_xml_next(const vr_xml *x, const vr_xml_node *node)
{
   return node && node->next ? &x->nodes[node->next] : NULL;
}

const vr_xml_node *vr_xml_child(const vr_xml *x, const vr_xml_node *node, const char *name)
{
   const vr_xml_node *child = vr_xml_first(x, node);
   while (child && strcmp(child->name, name)) {
      child = vr_xml_next(x, child);
   }
   return child;
}

const char *vr_xml_value(const vr_xml *x, const vr_xml_node *node, const char *name)
{
   const vr_xml_node *child = vr_xml_child(x, node, name);
   return child ? child->text : NULL;
}
