// SPDX-License-Identifier: ISC
/*
 * config_parse() with any text: refused with words, or a definition whose own
 * text is taken again and means the same.
 */
#include <stdlib.h>
#include <string.h>

#include "definition.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	_cleanup_definition_ struct definition *def = NULL, *again = NULL;
	_cleanup_strbuf_ struct strbuf first = STRBUF_INIT, second = STRBUF_INIT;
	struct err err = ERR_INIT;
	int r = config_parse((const char *)data, len, &def, &err);

	if (r < 0) {
		if (!err.text[0] || def)
			abort(); /* a refusal without words, or with a definition */
		return 0;
	}
	config_format(def, &first);
	if (config_parse(first.data, first.len, &again, &err) < 0)
		abort();
	config_format(again, &second);
	if (first.len != second.len || memcmp(first.data, second.data, first.len) != 0)
		abort();
	return 0;
}
