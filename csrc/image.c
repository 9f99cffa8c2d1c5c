/* Layers as one block of bytes, which is written in one program and read in another: on a processor of the same byte order,
 * which require.h makes sure of.
 *
 *   header       the spec, the size of all, and a checksum
 *   masks        for each layer and direction, which of its arrays are there
 *   arrays       those of the first layer, in the order of frnn_weights, those of the next, and so on
 *
 * Each of these begins at a multiple of FRNN_ALIGNMENT bytes, and what is between them is 0: an image is laid out by an
 * arena, once to learn its size and once for real. That makes reading safe too. Nothing that an image says is believed
 * before it was checked, and sizes are summed up by the arena, which says where they don't fit, before an array is read. */
#define _FILE_OFFSET_BITS 64
#define _POSIX_C_SOURCE 200809L /* fseeko */

#include <float.h>
#include <math.h>
#include <stdio.h>

#include "arena.h"
#include "kernel.h"

enum {
    VERSION = 1,
    MOST_BYTE_COLUMNS = 130000 /* of a matrix of bytes: sums of their products fit in 32 bits */
};

static const char MAGIC[8] = "fastrnn";

typedef struct image_activation {
    uint32_t function, unused;
    double alpha, beta;
} image_activation;

typedef struct image_header {
    char magic[8];
    uint32_t version;
    uint32_t checksum; /* CRC-32 of all that follows it */
    uint64_t bytes;    /* of the image */
    uint64_t input_size, hidden_size, proj_size, num_layers, vocabulary;
    uint32_t cell, dtype, precision, flags;
    double clip;
    image_activation activation[3]; /* activation, recurrent_activation, output_activation */
} image_header;

_Static_assert(sizeof(image_header) == 160, "a header has no padding");

enum { CHECKED_FROM = offsetof(image_header, bytes) };

enum { FORWARD = 1, REVERSE = 2, RESET_AFTER = 4, INPUT_FORGET = 8, ALL_FLAGS = 15 };

/* Of a mask: which arrays of frnn_weights are there, a bit each in their order. */
enum {
    HAS_W = 1,
    HAS_U = 2,
    HAS_B = 4,
    HAS_D = 8,
    HAS_V = 16,
    HAS_P = 32,
    HAS_W_SCALE = 64,
    HAS_U_SCALE = 128,
    HAS_V_SCALE = 256,
    HAS_E = 512,
    ARRAYS = 10 /* of frnn_weights */
};

/* The checksum of zip, PNG and Ethernet: zlib.crc32 in Python. */
static uint32_t crc32_of(const unsigned char *data, size_t bytes)
{
    uint32_t table[256], crc = UINT32_MAX;
    for (uint32_t i = 0; i < 256; i++) {
        table[i] = i;
        for (int bit = 0; bit < 8; bit++)
            table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xedb88320u : 0);
    }
    for (size_t i = 0; i < bytes; i++)
        crc = crc >> 8 ^ table[(crc ^ data[i]) & 255];
    return ~crc;
}

static size_t directions_of(const frnn_spec *spec) { return (size_t)spec->forward + (size_t)spec->reverse; }

static size_t out_of(const frnn_spec *spec) { return spec->proj_size ? spec->proj_size : spec->hidden_size; }

/* What a layer reads: I, or all outputs of the one below. */
static size_t inputs_of(frnn_arena *arena, const frnn_spec *spec, size_t i)
{
    const size_t D = directions_of(spec);
    return i < D ? spec->input_size : frnn_arena_product(arena, D, out_of(spec));
}

static bool has_bytes(const frnn_spec *spec)
{
    return spec->precision == FRNN_INT8 || spec->precision == FRNN_INT8_FAST;
}

/* Rows of an array, and bytes of one of them. */
typedef struct shape {
    size_t rows, row_bytes;
} shape;

/* What doesn't fit in size_t is noted in the arena. */
static shape shape_of(frnn_arena *arena, const frnn_spec *spec, size_t i, uint32_t array)
{
    const size_t H = spec->hidden_size, GH = frnn_arena_product(arena, frnn_cell_gates(spec->cell), H);
    const size_t number = spec->dtype == FRNN_FLOAT32 ? sizeof(float) : sizeof(double);
    const size_t weight = has_bytes(spec) ? 1 : spec->precision == FRNN_FLOAT16 ? 2 : number;
    switch (array) {
    case HAS_W: return (shape){GH, frnn_arena_product(arena, inputs_of(arena, spec, i), weight)};
    case HAS_U: return (shape){GH, frnn_arena_product(arena, out_of(spec), weight)};
    case HAS_V: return (shape){spec->proj_size, frnn_arena_product(arena, H, weight)};
    case HAS_P: return (shape){3, frnn_arena_product(arena, H, number)};
    case HAS_W_SCALE:
    case HAS_U_SCALE: return (shape){GH, sizeof(float)};
    case HAS_V_SCALE: return (shape){spec->proj_size, sizeof(float)};
    case HAS_E: return (shape){spec->vocabulary, frnn_arena_product(arena, spec->input_size, number)};
    default: return (shape){GH, number}; /* a bias */
    }
}

/* Takes room for the arrays that a layer has; NULL for all while the arena counts. */
static void take_arrays(frnn_arena *arena, const frnn_spec *spec, size_t i, uint32_t mask, void *arrays[ARRAYS])
{
    for (int k = 0; k < ARRAYS; k++) {
        const shape of = shape_of(arena, spec, i, 1u << k);
        arrays[k] = mask >> k & 1 ? frnn_arena_take(arena, of.rows, of.row_bytes) : NULL;
    }
}

/* Writing. */

/* In an image, or with `image` NULL only to learn its size. */
static size_t lay_out(const frnn_spec *spec, const frnn_weights *weights, char *image)
{
    const size_t n = spec->num_layers * directions_of(spec);
    frnn_arena arena = {.base = image};
    frnn_arena_take(&arena, 1, sizeof(image_header));
    uint32_t *masks = frnn_arena_take(&arena, n, sizeof *masks);
    for (size_t i = 0; i < n; i++) {
        const frnn_weights *w = &weights[i];
        const void *const from[ARRAYS] = {w->W, w->U, w->b, w->d, w->V, w->p, w->W_scale, w->U_scale, w->V_scale, w->E};
        void *to[ARRAYS];
        uint32_t mask = 0;
        for (int k = 0; k < ARRAYS; k++)
            mask |= from[k] ? 1u << k : 0;
        take_arrays(&arena, spec, i, mask, to);
        if (masks)
            masks[i] = mask;
        for (int k = 0; k < ARRAYS; k++) {
            const shape of = shape_of(&arena, spec, i, 1u << k);
            if (to[k])
                memcpy(to[k], from[k], of.rows * of.row_bytes);
        }
    }
    return arena.used;
}

size_t frnn_image_bytes(const frnn_spec *spec, const frnn_weights *weights) { return lay_out(spec, weights, NULL); }

static image_activation write_activation(frnn_activation activation)
{
    return (image_activation){
        .function = (uint32_t)activation.function, .alpha = activation.alpha, .beta = activation.beta};
}

void frnn_image_write(const frnn_spec *spec, const frnn_weights *weights, void *image)
{
    const size_t bytes = lay_out(spec, weights, NULL);
    memset(image, 0, bytes);
    lay_out(spec, weights, image);
    image_header header = {
        .version = VERSION,
        .bytes = bytes,
        .input_size = spec->input_size,
        .hidden_size = spec->hidden_size,
        .proj_size = spec->proj_size,
        .num_layers = spec->num_layers,
        .vocabulary = spec->vocabulary,
        .cell = (uint32_t)spec->cell,
        .dtype = (uint32_t)spec->dtype,
        .precision = (uint32_t)spec->precision,
        .flags = (spec->forward ? FORWARD : 0u) | (spec->reverse ? REVERSE : 0u) |
                 (spec->reset_after ? RESET_AFTER : 0u) | (spec->input_forget ? INPUT_FORGET : 0u),
        .clip = spec->clip,
        .activation = {write_activation(spec->activation), write_activation(spec->recurrent_activation),
                       write_activation(spec->output_activation)},
    };
    memcpy(header.magic, MAGIC, sizeof MAGIC);
    memcpy(image, &header, sizeof header);
    header.checksum = crc32_of((const unsigned char *)image + CHECKED_FROM, bytes - CHECKED_FROM);
    memcpy(image, &header, sizeof header);
}

/* Reading. */

/* Of a header alone; `bytes` are those of the image. */
static frnn_status check_header(const image_header *header, uint64_t bytes)
{
    if (memcmp(header->magic, MAGIC, sizeof MAGIC) != 0)
        return FRNN_NO_IMAGE;
    if (header->version > VERSION)
        return FRNN_NEWER_IMAGE;
    return header->version == VERSION && header->bytes == bytes ? FRNN_OK : FRNN_BROKEN_IMAGE;
}

static bool is_number(double value, frnn_dtype dtype)
{
    return fabs(value) <= (dtype == FRNN_FLOAT32 ? (double)FLT_MAX : DBL_MAX);
}

static bool read_activation(const image_activation *from, frnn_dtype dtype, frnn_activation *to)
{
    *to = (frnn_activation){(frnn_function)from->function, from->alpha, from->beta};
    return from->function < FRNN_FUNCTIONS && is_number(from->alpha, dtype) && is_number(from->beta, dtype);
}

/* A bias is optional, and so are an LSTM's peepholes; without E, rows of the embedding are those of an identity matrix. */
static bool mask_is_right(const frnn_spec *spec, size_t i, uint32_t mask)
{
    const bool may_embed = i == 0 && spec->vocabulary > 0;
    const uint32_t matrices = HAS_W | HAS_U | (spec->proj_size ? HAS_V : 0u);
    const uint32_t scales = has_bytes(spec) ? HAS_W_SCALE | HAS_U_SCALE | (spec->proj_size ? HAS_V_SCALE : 0u) : 0;
    const uint32_t optional = HAS_B | HAS_D | (spec->cell == FRNN_LSTM ? HAS_P : 0u) | (may_embed ? HAS_E : 0u);
    if (may_embed && !(mask & HAS_E) && spec->vocabulary != spec->input_size)
        return false;
    return (mask & ~optional) == (matrices | scales);
}

/* Whether these are layers that params can be made of, but for their arrays. */
static bool read_spec(const image_header *header, frnn_spec *spec)
{
    if (header->cell >= FRNN_CELLS || header->dtype >= FRNN_DTYPES || header->precision >= FRNN_PRECISIONS ||
        header->flags > ALL_FLAGS)
        return false;
    const uint64_t sizes[] = {header->input_size, header->hidden_size, header->proj_size, header->num_layers,
                              header->vocabulary};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (sizes[i] > PTRDIFF_MAX / FRNN_ALIGNMENT)
            return false;
    const frnn_dtype dtype = (frnn_dtype)header->dtype;
    *spec = (frnn_spec){
        .cell = (frnn_cell)header->cell,
        .dtype = dtype,
        .precision = (frnn_precision)header->precision,
        .input_size = (size_t)header->input_size,
        .hidden_size = (size_t)header->hidden_size,
        .proj_size = (size_t)header->proj_size,
        .num_layers = (size_t)header->num_layers,
        .forward = header->flags & FORWARD,
        .reverse = header->flags & REVERSE,
        .reset_after = header->flags & RESET_AFTER,
        .input_forget = header->flags & INPUT_FORGET,
        .clip = header->clip,
        .vocabulary = (size_t)header->vocabulary,
    };
    const double least = dtype == FRNN_FLOAT32 ? (double)FLT_MIN : DBL_MIN;
    return spec->hidden_size > 0 && spec->num_layers > 0 && directions_of(spec) > 0 &&
           (spec->precision == FRNN_FULL || dtype == FRNN_FLOAT32) && (!spec->proj_size || spec->cell == FRNN_LSTM) &&
           (spec->clip == INFINITY || (spec->clip >= least && is_number(spec->clip, dtype))) &&
           read_activation(&header->activation[0], dtype, &spec->activation) &&
           read_activation(&header->activation[1], dtype, &spec->recurrent_activation) &&
           read_activation(&header->activation[2], dtype, &spec->output_activation);
}

/* Where the arrays are; false where they are not those of the spec, or do not fill the image. weights NULL: only whether. */
static bool find_arrays(const frnn_spec *spec, const char *image, size_t bytes, frnn_weights *weights)
{
    frnn_arena arena = {.base = weights ? (char *)(uintptr_t)image : NULL};
    const size_t n = frnn_arena_product(&arena, spec->num_layers, directions_of(spec));
    frnn_arena_take(&arena, 1, sizeof(image_header));
    const size_t before = arena.used;
    frnn_arena_take(&arena, n, sizeof(uint32_t));
    for (size_t i = 0; i < n && !arena.too_large && arena.used <= bytes; i++) {
        uint32_t mask;
        void *at[ARRAYS];
        memcpy(&mask, image + before + i * sizeof mask, sizeof mask);
        if (!mask_is_right(spec, i, mask))
            return false;
        if (has_bytes(spec) && (inputs_of(&arena, spec, i) > MOST_BYTE_COLUMNS ||
                                spec->hidden_size > MOST_BYTE_COLUMNS || spec->proj_size > MOST_BYTE_COLUMNS))
            return false;
        take_arrays(&arena, spec, i, mask, at);
        if (weights)
            weights[i] = (frnn_weights){at[0], at[1], at[2], at[3], at[4], at[5], at[6], at[7], at[8], at[9]};
    }
    return !arena.too_large && arena.used == bytes;
}

/* Of an image that is aligned, and whose header was checked. */
static frnn_status read_image(const char *image, size_t bytes, const frnn_target *target, frnn_params **params)
{
    image_header header;
    frnn_spec spec;
    memcpy(&header, image, sizeof header);
    if (header.checksum != crc32_of((const unsigned char *)image + CHECKED_FROM, bytes - CHECKED_FROM) ||
        !read_spec(&header, &spec) || !find_arrays(&spec, image, bytes, NULL))
        return FRNN_BROKEN_IMAGE;
    frnn_weights *weights = malloc(spec.num_layers * directions_of(&spec) * sizeof *weights);
    if (!weights)
        return FRNN_NO_MEMORY;
    find_arrays(&spec, image, bytes, weights);
    for (size_t i = 0; !target; i++)
        if (frnn_target_usable(frnn_target_at(i)))
            target = frnn_target_at(i);
    const frnn_status status = frnn_params_new(&spec, weights, target, params);
    free(weights);
    return status;
}

frnn_status frnn_params_read(const void *image, size_t bytes, const frnn_target *target, frnn_params **params)
{
    image_header header;
    if (bytes < sizeof header)
        return FRNN_NO_IMAGE;
    memcpy(&header, image, sizeof header);
    frnn_status status = check_header(&header, bytes);
    if (status != FRNN_OK)
        return status;
    if ((uintptr_t)image % sizeof(double) == 0)
        return read_image(image, bytes, target, params);
    void *aligned = malloc(bytes);
    if (!aligned)
        return FRNN_NO_MEMORY;
    status = read_image(memcpy(aligned, image, bytes), bytes, target, params);
    free(aligned);
    return status;
}

/* The size of a file is compared with what its header says before memory is taken for it. */
static frnn_status read_file(FILE *file, const frnn_target *target, frnn_params **params)
{
    image_header header;
    if (fread(&header, sizeof header, 1, file) != 1)
        return ferror(file) ? FRNN_NO_FILE : FRNN_NO_IMAGE;
    if (fseeko(file, 0, SEEK_END))
        return FRNN_NO_FILE;
    const off_t bytes = ftello(file);
    if (bytes < 0 || fseeko(file, 0, SEEK_SET))
        return FRNN_NO_FILE;
    frnn_status status = check_header(&header, (uint64_t)bytes);
    if (status != FRNN_OK)
        return status;
    void *image = (uint64_t)bytes <= PTRDIFF_MAX ? malloc((size_t)bytes) : NULL;
    if (!image)
        return FRNN_NO_MEMORY;
    status = FRNN_NO_FILE;
    if (fread(image, (size_t)bytes, 1, file) == 1)
        status = frnn_params_read(image, (size_t)bytes, target, params);
    free(image);
    return status;
}

frnn_status frnn_params_load(const char *path, const frnn_target *target, frnn_params **params)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return FRNN_NO_FILE;
    const frnn_status status = read_file(file, target, params);
    fclose(file);
    return status;
}

const char *frnn_status_text(frnn_status status)
{
    switch (status) {
    case FRNN_OK: return "done";
    case FRNN_NO_MEMORY: return "no memory";
    case FRNN_INTERRUPTED: return "interrupted";
    case FRNN_FORKED: return "the process was forked in a call";
    case FRNN_NO_SUCH_TOKEN: return "x: expected tokens of the vocabulary";
    case FRNN_WRONG_IDS: return "ids: expected those of one pool";
    case FRNN_NO_FILE: return "the file can't be read: errno says why";
    case FRNN_NO_IMAGE: return "expected an image, as params.save_image(path) of fastrnn in Python writes it";
    case FRNN_NEWER_IMAGE: return "expected an image of version 1; a newer fastrnn reads it";
    case FRNN_REVERSE: return "expected layers that run forward alone, since a step cannot see what is to come";
    case FRNN_BROKEN_IMAGE: return "expected a whole image, got one that was cut short, changed, or made wrong";
    }
    return "no status of fastrnn";
}
