/*
 * Reads an XML document into a tree, in place.
 *
 *    <a:b x:type="vim:T"><c>1 &amp; 2</c></a:b>     name "b", type "T", child: name "c", text "1 & 2"
 *
 * Names are without prefix: the answers of vSphere use one namespace for what is read here. An
 * element with children has no text. The strings of the tree are in the document itself, so that
 * wiping it wipes them. A document type is refused, and with it every entity but the five of XML.
 */
#ifndef VR_XML_H
#define VR_XML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VR_XML_DEPTH 64u
#define VR_XML_NODES 200000u

typedef struct {
   const char *name;
   const char *type; /* of the attribute type or xsi:type, without prefix; "" where there is none */
   const char *text; /* "" where there is none */
   uint32_t child;   /* the first one; 0: none */
   uint32_t next;    /* sibling; 0: none */
} vr_xml_node;

typedef struct {
   vr_xml_node *nodes; /* nodes[1] is the root */
   uint32_t count;
   uint32_t room;
} vr_xml;

/* `text` has `bytes` bytes and room for a NUL behind them. False for anything that is not a whole
 * document within the limits; nothing needs to be freed then. */
bool vr_xml_parse(char *text, size_t bytes, vr_xml *out);
void vr_xml_free(vr_xml *x);

/* Of all calls, NULL gives NULL. The first child of this name: */
const vr_xml_node *vr_xml_child(const vr_xml *x, const vr_xml_node *node, const char *name);
/* The first child, or the next sibling, of any name: */
const vr_xml_node *vr_xml_first(const vr_xml *x, const vr_xml_node *node);
const vr_xml_node *vr_xml_next(const vr_xml *x, const vr_xml_node *node);
/* The text of the first child of this name; NULL where there is no such child. */
const char *vr_xml_value(const vr_xml *x, const vr_xml_node *node, const char *name);

#endif
