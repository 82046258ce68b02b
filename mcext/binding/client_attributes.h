/* client_attributes: the attributes of Client. */
#ifndef MCX_CLIENT_ATTRIBUTES_H
#define MCX_CLIENT_ATTRIBUTES_H

#include "options.h"

/* The other attributes, numbered behind the options. */
enum {
    MCX_STATS = MCX_OPTION_COUNT, /* of each thread */
    MCX_CAS_IDS,
    MCX_SERVERS, /* of all threads */
    MCX_BUCKETS,
    MCX_ATTRIBUTE_COUNT
};

/* What the descriptor of an attribute is given. Lives in the module's state. */
typedef struct {
    mcx_module *module;
    const char *name;
    int number;
} mcx_attribute;

int mcx_add_attributes(mcx_module *module);

#endif
