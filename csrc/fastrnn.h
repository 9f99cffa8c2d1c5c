/* fastrnn: recurrent layers on CPUs.
 *
 * The C interface of the library, and the one place where its contracts are written.
 * Read this file, then cells.def, strand.c and kernel/cells/lstm.inc.h.
 *
 * Letters used everywhere: T steps, B batch rows, I input size, H hidden size, P projection size, L layers,
 * D directions, G gates. Equations and gate orders are in docs/numerics.md.
 */
#ifndef FASTRNN_H
#define FASTRNN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a function answers. Nothing is printed, nothing is thrown, and a failed call has written no result that
 * may be read. */
typedef enum frnn_status {
    FRNN_OK,
    FRNN_NO_MEMORY,     /* memory could not be had, or its size does not fit in size_t */
    FRNN_INTERRUPTED,   /* frnn_call.interrupted said so */
    FRNN_FORKED,        /* frnn_call.interrupted forked the process, this is the child, and other threads took part */
    FRNN_NO_SUCH_TOKEN, /* a token of x is below 0, or not below the vocabulary */
    FRNN_WRONG_IDS,     /* frnn_pool_restore: no pool can have had these */
    FRNN_NO_FILE,       /* a file could not be opened or read: errno says why */
    FRNN_NO_IMAGE,      /* frnn_params_read, frnn_params_load: these bytes are no image */
    FRNN_NEWER_IMAGE,   /* an image of a version that a newer library reads */
    FRNN_REVERSE,       /* frnn_stream_new, frnn_pool_new: layers that run in reverse begin at the end */
    FRNN_BROKEN_IMAGE   /* an image that was cut short or changed, or that no library can have written */
} frnn_status;

/* The same in words, for a message. */
const char *frnn_status_text(frnn_status status);

typedef enum frnn_dtype { FRNN_FLOAT32, FRNN_FLOAT64, FRNN_DTYPES } frnn_dtype;

/* FRNN_RNN, FRNN_LSTM and so on, one a row of cells.def. */
typedef enum frnn_cell {
#define FRNN_CELL(NAME, ...) FRNN_##NAME,
#include "cells.def"
    FRNN_CELLS
} frnn_cell;

const char *frnn_cell_name(frnn_cell cell);         /* in Python: "lstm" */
size_t frnn_cell_gates(frnn_cell cell);             /* G: its weights have G*H rows */
size_t frnn_cell_states(frnn_cell cell);            /* h, and what it keeps from step to step beside h: c of an LSTM */
enum { FRNN_MOST_GATES = 4, FRNN_MOST_STATES = 2 }; /* of any cell */

typedef enum frnn_function {
    FRNN_TANH,
    FRNN_SIGMOID,
    FRNN_RELU,
    FRNN_HARD_SIGMOID, /* max(0, min(1, alpha x + beta)) */
    FRNN_SOFTSIGN,     /* x / (1 + |x|) */
    FRNN_LINEAR        /* alpha x + beta */
} frnn_function;

enum { FRNN_FUNCTIONS = FRNN_LINEAR + 1 };

typedef struct frnn_activation {
    frnn_function function;
    double alpha, beta;
} frnn_activation;

/* How the weights of W, U and V are stored and multiplied (docs/precision.md). All else, and all results, are of the dtype. */
typedef enum frnn_precision {
    FRNN_FULL,     /* numbers of the dtype */
    FRNN_FLOAT16,  /* IEEE 754 halves, widened exactly; these three with FRNN_FLOAT32 alone */
    FRNN_INT8,     /* bytes and a scale a row; what they multiply becomes integers of 14 bits */
    FRNN_INT8_FAST /* the same bytes; what they multiply becomes integers of 8 bits */
} frnn_precision;

enum { FRNN_PRECISIONS = FRNN_INT8_FAST + 1 };

/* Everything about a stack of layers but its numbers. H >= 1, L >= 1, and forward or reverse or both. */
typedef struct frnn_spec {
    frnn_cell cell;
    frnn_dtype dtype;
    frnn_precision precision;
    size_t input_size, hidden_size, proj_size, num_layers; /* I, H, P and L; proj_size 0: no projection */
    bool forward, reverse;
    bool reset_after;                     /* GRU: the reset gate acts after the recurrent product */
    bool input_forget;                    /* LSTM: f = 1 - i; the rows of f are not used */
    double clip;                          /* bounds the input of gates and candidates, > 0; INFINITY: none */
    frnn_activation activation;           /* candidate (RNN h, LSTM g, GRU n) */
    frnn_activation recurrent_activation; /* gates */
    frnn_activation output_activation;    /* LSTM: h = o * act(c) */
    size_t vocabulary; /* V: rows of the embedding, which tokens may name; 0: x is of numbers alone */
} frnn_spec;

/* The arrays of one layer in one direction, dense, row-major; NULL where absent. W, U and V are of the spec's precision, all
 * others of its dtype. Input size I of layer 0, D * (P or H) of the others. */
typedef struct frnn_weights {
    const void *W; /* (G*H, I) */
    const void *U; /* (G*H, P or H); NULL where a cell multiplies no h */
    const void *b; /* (G*H), added to W x */
    const void *d; /* (G*H), added to U h */
    const void *V; /* (P, H), projection */
    const void *p; /* (3*H), peepholes in the order i f o */
    /* What a byte of each row of W, U and V stands for, (G*H) and (P); NULL where weights are no bytes. */
    const float *W_scale, *U_scale, *V_scale;
    /* The embedding, (V, I) of the dtype, in the first entry, where the spec has a vocabulary. NULL: V = I, and its rows are
     * those of the identity matrix, of which each is 1 where its token is, and 0 elsewhere. */
    const void *E;
} frnn_weights;

/* An instruction set with a kernel for each dtype. The list is best first and ends with "scalar", which every
 * processor runs. A target may be another one, its base, with instructions for products of bytes: layers whose weights are
 * no bytes run alike on both. */
typedef struct frnn_target frnn_target;

size_t frnn_target_count(void);
const frnn_target *frnn_target_at(size_t index);
const char *frnn_target_name(const frnn_target *target);
/* The name of its base; its own name where it has none. */
const char *frnn_target_base(const frnn_target *target);
/* Whether this processor and its operating system can run the target. */
bool frnn_target_usable(const frnn_target *target);

/* What x of a call is made of: numbers, or tokens, which are the numbers of rows of the embedding. */
typedef enum frnn_tokens { FRNN_NO_TOKENS, FRNN_TOKENS_32, FRNN_TOKENS_64 /* int32_t, int64_t */ } frnn_tokens;

/* Bytes at most of a table with bias + W E[v] for each token v, which params have in place of multiplying W in each call.
 * Where it would take more, or its rows more time than making them, W is multiplied with rows of the embedding. */
#define FRNN_MOST_TABLE_BYTES ((size_t)64 << 20)

/* Weights laid out for one target (docs/packing.md). Never written after frnn_params_new, so any number of threads
 * may run on the same params. */
typedef struct frnn_params frnn_params;

/* weights: L * D entries, layer by layer, forward before reverse. They are copied. V is there in every layer if P > 0,
 * and in none else; V and p are for an LSTM. target must be usable. *params is written if the answer is FRNN_OK. */
frnn_status frnn_params_new(const frnn_spec *spec, const frnn_weights *weights, const frnn_target *target,
                            frnn_params **params);
/* Other numbers for the same layers, with the same arrays there, as steps of training make them: the memory of such params
 * is kept for the next ones. */
frnn_status frnn_params_renew(const frnn_params *like, const frnn_weights *weights, frnn_params **params);
void frnn_params_free(frnn_params *params); /* NULL is allowed */
size_t frnn_params_bytes(const frnn_params *params);
size_t frnn_params_table_bytes(const frnn_params *params); /* of these: of the table of tokens; 0: there is none */
const frnn_spec *frnn_params_spec(const frnn_params *params);

/* Layers as one block of bytes, which stays the same whatever target they are packed for: how a program in C comes to weights
 * that were trained elsewhere (docs/realtime.md). In Python params.save_image(path) writes it. csrc/image.c has the layout.
 * It holds the numbers of the enums above, so what is added to one of these comes last.
 *
 * spec and weights are as for frnn_params_new. `image` has room for frnn_image_bytes, and is aligned to 8 bytes. */
size_t frnn_image_bytes(const frnn_spec *spec, const frnn_weights *weights);
void frnn_image_write(const frnn_spec *spec, const frnn_weights *weights, void *image);

/* Params of an image in memory, which is not needed any more afterwards, or in a file. target NULL: the best that is usable.
 * Images need not be trusted: whatever is in one, nothing else is read or written, and memory is in proportion to its size, but
 * for a table of tokens. *params is written if the answer is FRNN_OK. */
frnn_status frnn_params_read(const void *image, size_t bytes, const frnn_target *target, frnn_params **params);
frnn_status frnn_params_load(const char *path, const frnn_target *target, frnn_params **params);

/* Writes how a call of T steps and B rows would run on at most so many threads, and why, as lines of text. It writes at
 * most `size` bytes, the last being 0, and answers how many the whole text needs. What is expected is learnt from calls, so
 * another time the text may be another one. */
size_t frnn_explain(const frnn_params *params, size_t T, size_t B, size_t threads, char *text, size_t size);

enum { FRNN_MOST_THREADS = 256 }; /* the calling one included */

/* An array that is read: [outer][B][numbers], strides in bytes, the last axis dense. */
typedef struct frnn_array {
    const void *data;
    ptrdiff_t outer, row;
} frnn_array;

/* One call on a batch of sequences. Addresses and strides are multiples of a number's size. What is written overlaps
 * nothing that is read, nor anything else that is written.
 *
 * Scratch does not grow with T: it is O(L B H), and a chunk of steps of each layer, three in a wavefront of layers. But for
 * bidirectional stacks of two layers and more: each layer needs the whole output of the one below, so it is O(T B H). */
typedef struct frnn_call {
    size_t T, B;
    frnn_array x;       /* (T, B, I) of numbers, or (T, B) of tokens */
    frnn_tokens tokens; /* which of them. Tokens past a row's length are not read */
    /* The cell's states before the first step, h first: h (L*D, B, P or H), the others (L*D, B, H). data NULL: zeros. */
    frnn_array initial[FRNN_MOST_STATES];
    const size_t *lengths; /* (B), each at most T; NULL: all T */
    /* (T, B), strides in bytes; NULL: none. Where a byte is not 0, the row's states of all layers are zeros before the step
     * of that time, in each direction where that direction comes to it. What is past a row's length changes nothing. */
    const unsigned char *resets;
    ptrdiff_t reset_time, reset_row;
    bool return_sequences;
    void *y; /* (T, B, D*(P or H)), zero past a row's length; or (B, D*(P or H)), the last step's, y_time unused */
    ptrdiff_t y_time, y_row;
    void *final[FRNN_MOST_STATES]; /* the states after each row's last step, dense, of the shapes of `initial` */
    size_t threads;                /* at most this many, from 1 to FRNN_MOST_THREADS */
    /* Asked now and then by the calling thread whether to end, in that thread's own floating-point mode; NULL: never.
     * It may make calls of its own, which may then run on one thread. It may fork, and return in both processes. */
    bool (*interrupted)(void *context);
    void *context;
} frnn_call;

/* Runs the layers. The bits of a row's results depend on the params and on that row's x, state, resets and length alone: those
 * from a reset on are the bits of a call that begins there, without a state, and those of tokens are those of the rows of the
 * embedding that they name. Tokens are checked before anything is written. */
frnn_status frnn_run(const frnn_params *params, const frnn_call *call);

/* What a call keeps of itself, to go back over it. It does not refer to the arrays of the call, but to the params. */
typedef struct frnn_tape frnn_tape;

/* frnn_run, with the same results, and a tape of it: of every step, or of the states before each segment of so many steps,
 * which are run again on the way back. 0: every step. *tape is written if the answer is FRNN_OK. */
frnn_status frnn_run_taped(const frnn_params *params, const frnn_call *call, size_t segment, frnn_tape **tape);
size_t frnn_tape_bytes(const frnn_tape *tape);
void frnn_tape_free(frnn_tape *tape); /* NULL is allowed */

/* What a layer in a direction did at each step: arrays (T, B, H), h (T, B, P or H), zeros past a row's length; NULL: not
 * wanted. */
typedef struct frnn_trace {
    void *gates[FRNN_MOST_GATES]; /* in the order of the weights' rows; an Elman layer's is its h, and not written */
    void *states[FRNN_MOST_STATES];
} frnn_trace;

/* Writes the times from begin to end - 1 of a layer in a direction (index: layer * D + direction), of a tape of every step.
 * All numbers are those of the call, to the bit. */
frnn_status frnn_tape_read(const frnn_tape *tape, size_t index, size_t begin, size_t end, const frnn_trace *to);

/* Weights laid out for the way back: made of the arrays that the params were made of, once for any number of tapes. The
 * weights are numbers: params of a narrow precision have no gradients. */
typedef struct frnn_transposed frnn_transposed;

frnn_status frnn_transposed_new(const frnn_params *params, const frnn_weights *weights, frnn_transposed **transposed);
size_t frnn_transposed_bytes(const frnn_transposed *transposed);
void frnn_transposed_free(frnn_transposed *transposed); /* NULL is allowed */

/* Gradients of one layer's weights in one direction, in arrays like frnn_weights; NULL: not wanted. */
typedef struct frnn_weight_gradients {
    void *W, *U, *b, *d, *V, *p;
} frnn_weight_gradients;

/* Gradients of a number that depends on the results of a taped call: those of the results are given, those of what went in
 * are written. A row's steps past its length have gradient 0, and what is given for them is not read. */
typedef struct frnn_pull {
    frnn_array dy; /* as y of the call: (T, B, D*(P or H)), or (B, ..), outer unused; NULL: zeros */
    frnn_array dfinal[FRNN_MOST_STATES]; /* as the final states, their strides as those of `initial`; NULL: zeros */
    void *dx;                            /* (T, B, I); NULL: not wanted, as where x was of tokens */
    ptrdiff_t dx_time, dx_row;
    void *dinitial[FRNN_MOST_STATES];     /* dense; NULL: not wanted */
    const frnn_weight_gradients *weights; /* L * D entries; NULL: not wanted */
    void *dE;       /* (V, I), dense, of the embedding; zeros where x was of numbers; NULL: not wanted */
    size_t threads; /* these three as in frnn_call */
    bool (*interrupted)(void *context);
    void *context;
} frnn_pull;

/* The tape is not written, so it may be pulled back again. The bits of gradients depend on the params, the batch in its
 * order, and the gradients that are given. */
frnn_status frnn_pull_back(const frnn_tape *tape, const frnn_transposed *transposed, const frnn_pull *pull);

/* Seconds that the products of a step of one row are expected to take where the weights are in a near cache. */
double frnn_step_seconds(const frnn_params *params);

/* A stack that runs forward, one step at a time: it keeps the state of B rows and all memory that a step needs. A step
 * on one thread allocates nothing, locks nothing and makes no system call. The bits are those of frnn_run over the whole
 * sequence. One thread at a time may use a stream; the params must outlive it.
 *
 * h of all layers, and so the output of a step, lies in one of two slots. A step, a run or a state that is set writes
 * the slot that is not the newest, which then is: an output is there until the next but one of them. */
typedef struct frnn_stream frnn_stream;

/* B >= 1, and layers that run forward alone. The state is zeros. *stream is written if the answer is FRNN_OK. */
frnn_status frnn_stream_new(const frnn_params *params, size_t B, frnn_stream **stream);
void frnn_stream_free(frnn_stream *stream); /* NULL is allowed */

/* x: B rows of I, or B tokens, x_row bytes apart, not in the slot that is written. A step runs on at most so many threads,
 * and on the calling one where it is so short that others would not pay. Answers the slot of the output; -1: a token is none
 * of the vocabulary, and no step was taken. */
int frnn_stream_step(frnn_stream *stream, const void *x, ptrdiff_t x_row, frnn_tokens tokens, size_t threads);
/* The slot that holds the state, 0 or 1, and what is in a slot of the top layer's output: (B, P or H), dense. */
int frnn_stream_newest(const frnn_stream *stream);
const void *frnn_stream_output(const frnn_stream *stream, int slot);
/* From now on the slot that is not the newest lies in memory of frnn_stream_slot_bytes, which the caller keeps until the
 * slot is moved again or the stream is freed. What was in the slot stays where it was. */
void frnn_stream_move_slot(frnn_stream *stream, void *memory);
size_t frnn_stream_slot_bytes(const frnn_stream *stream);

/* frnn_run from the stream's state, which moves on if the answer is FRNN_OK and stays as it was if not. B, lengths and
 * the states of the call are not read. */
frnn_status frnn_stream_run(frnn_stream *stream, const frnn_call *call);

/* The cell's states, h first, each dense: (L, B, P or H), the others (L, B, H). */
void frnn_stream_get_state(const frnn_stream *stream, void *const states[]);
/* states NULL, or one of them: zeros. None overlaps the slots. */
void frnn_stream_set_state(frnn_stream *stream, const void *const states[]);

/* Streams that come and go, of one stack that runs forward. Any of them take a step together, in any order, and the others
 * keep their states. A stream's bits are those that it has alone, whichever streams step beside it. One thread at a time
 * may use a pool; the params must outlive it. */
typedef struct frnn_pool frnn_pool;

/* What names a stream: not negative, and given once in a process. So the id of a closed stream, or of a stream of another
 * pool, is that of no open stream here; but a restored pool has the ids of the pool that it was made from. */
typedef int64_t frnn_id;

enum { FRNN_MOST_STREAMS = 1 << 24 }; /* open in a pool at once */

/* Of layers that run forward alone. capacity: from 1 to FRNN_MOST_STREAMS, for so many streams there is memory at once. *pool
 * is written if the answer is FRNN_OK. */
frnn_status frnn_pool_new(const frnn_params *params, size_t capacity, frnn_pool **pool);
void frnn_pool_free(frnn_pool *pool); /* NULL is allowed */
size_t frnn_pool_capacity(const frnn_pool *pool);

/* A new stream, whose state is zeros. Where there is no memory left for it, that of the pool doubles; states do not move. It
 * answers FRNN_NO_MEMORY, and nothing has changed, where that can't be had, or FRNN_MOST_STREAMS are open. */
frnn_status frnn_pool_open(frnn_pool *pool, frnn_id *id);

/* The streams that are open, in the order of their places in memory. Answers how many; ids NULL: only that. */
size_t frnn_pool_ids(const frnn_pool *pool, frnn_id *ids);

/* Answers the index of the first id that is not that of an open stream, or came before; n where there is none. All functions
 * below need open and distinct streams: at most the capacity of n. */
size_t frnn_pool_find_wrong(frnn_pool *pool, size_t n, const frnn_id *ids);

void frnn_pool_close(frnn_pool *pool, size_t n, const frnn_id *ids);

/* A step of n streams. x: n rows of I, or n tokens, x_row bytes apart; y: n rows of P or H, y_row bytes apart, may overlap x.
 * It runs on at most so many threads; on one it allocates nothing, locks nothing and makes no system call. It answers
 * FRNN_OK; FRNN_NO_SUCH_TOKEN, and no stream has moved; or FRNN_FORKED in a child that a signal handler forked from more
 * threads than one: then no state of these streams is whole until it is set. */
frnn_status frnn_pool_step(frnn_pool *pool, size_t n, const frnn_id *ids, const void *x, ptrdiff_t x_row,
                           frnn_tokens tokens, void *y, ptrdiff_t y_row, size_t threads);

/* frnn_run from the states of call->B streams, which move on if the answer is FRNN_OK and stay as they were if not. The
 * states of the call are not read. */
frnn_status frnn_pool_run(frnn_pool *pool, const frnn_id *ids, const frnn_call *call);

/* The cell's states of n streams, h first, each dense: (L, n, P or H), the others (L, n, H). */
void frnn_pool_get_states(const frnn_pool *pool, size_t n, const frnn_id *ids, void *const states[]);
/* As frnn_call.initial, B being n. states NULL, or the data of one of them: zeros. */
void frnn_pool_set_states(frnn_pool *pool, size_t n, const frnn_id *ids, const frnn_array states[]);

/* Opens streams that were open in another pool, maybe in another process, with the same ids and states of zeros, in a pool
 * that has none. `latest` is the other pool's frnn_pool_latest: so no id of a stream that was closed there is given again
 * here. FRNN_WRONG_IDS, where no pool can have had these ids, or FRNN_NO_MEMORY: no stream is open. */
frnn_id frnn_pool_latest(const frnn_pool *pool);
frnn_status frnn_pool_restore(frnn_pool *pool, size_t n, const frnn_id *ids, frnn_id latest);

#ifdef __cplusplus
}
#endif

#endif
