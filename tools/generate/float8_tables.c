/* SPDX-License-Identifier: Apache-2.0 */
/* Writes the tables of core/reduce_portable.c: of the 8-bit formats every sum and product. Run when
 * the library is built. */
#include <stdint.h>
#include <stdio.h>

#include "core/float.h"

enum { VALUES = 256, IN_A_LINE = 24 };

static uint32_t combine(struct mt_narrow format, uint32_t left, uint32_t right, int is_product)
{
    float a = mt_float_of_narrow(format, left), b = mt_float_of_narrow(format, right);
    return mt_narrow_of_float(format, is_product ? a * b : a + b);
}

static void write_table(const char *name, struct mt_narrow format, int is_product)
{
    printf("static const uint8_t %s[%d] = {", name, VALUES * VALUES);
    for (uint32_t i = 0; i < VALUES * VALUES; i++)
        printf("%s%u,", i % IN_A_LINE ? "" : "\n",
               combine(format, i / VALUES, i % VALUES, is_product));
    printf("\n};\n");
}

int main(void)
{
    printf("/* SPDX-License-Identifier: Apache-2.0 */\n");
    printf("/* Written by tools/generate/float8_tables.c: by left * 256 + right. */\n");
    printf("#include <stdint.h>\n");
    write_table("float8_e4m3_sums", MT_NARROW_E4M3, 0);
    write_table("float8_e4m3_products", MT_NARROW_E4M3, 1);
    write_table("float8_e5m2_sums", MT_NARROW_E5M2, 0);
    write_table("float8_e5m2_products", MT_NARROW_E5M2, 1);
    return ferror(stdout) || fflush(stdout) != 0;
}
