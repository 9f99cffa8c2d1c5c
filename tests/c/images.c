/* Reads images of layers, and runs them: test_image.py looks at what comes out.
 *
 *     images FILE T B        x from the standard input, y and the final states to the standard output
 *     images FILE T B 32|64  the same for tokens of so many bits
 *     images check FILE..    prints what reading each of these answers; layers that can be made are run and written anew */
#include "arrays.h"

#include <stdio.h>

static void must_be(bool right, const char *what)
{
    if (right)
        return;
    fprintf(stderr, "images: expected %s\n", what);
    exit(1);
}

static void read_all(void *to, size_t bytes) { must_be(fread(to, 1, bytes, stdin) == bytes, "more input"); }

static void write_all(const void *from, size_t bytes) { must_be(fwrite(from, 1, bytes, stdout) == bytes, "to write"); }

/* Bytes of a number, of a step's x and y of a row, and of the states of a row. */
typedef struct sizes {
    size_t number, x, y, states[FRNN_MOST_STATES];
} sizes;

static sizes sizes_of(const frnn_spec *spec, size_t token)
{
    const size_t number = size_of(spec->dtype), D = (size_t)spec->forward + (size_t)spec->reverse;
    const size_t out = spec->proj_size ? spec->proj_size : spec->hidden_size, layers = spec->num_layers * D;
    return (sizes){
        .number = number,
        .x = token ? token : spec->input_size * number,
        .y = D * out * number,
        .states = {layers * out * number, frnn_cell_states(spec->cell) > 1 ? layers * spec->hidden_size * number : 0},
    };
}

typedef struct results {
    void *y, *states[FRNN_MOST_STATES];
} results;

static results run(const frnn_params *params, size_t T, size_t B, const void *x, size_t token)
{
    const sizes sizes = sizes_of(frnn_params_spec(params), token);
    const results r = {allocate_unset(T * B, sizes.y),
                       {allocate_unset(B, sizes.states[0]), allocate_unset(B, sizes.states[1])}};
    const frnn_call call = {
        .T = T,
        .B = B,
        .x = dense(x, B, sizes.x),
        .tokens = token == 4   ? FRNN_TOKENS_32
                  : token == 8 ? FRNN_TOKENS_64
                               : FRNN_NO_TOKENS,
        .return_sequences = true,
        .y = r.y,
        .y_time = (ptrdiff_t)(B * sizes.y),
        .y_row = (ptrdiff_t)sizes.y,
        .final = {r.states[0], r.states[1]},
        .threads = 1,
    };
    must_be(frnn_run(params, &call) == FRNN_OK, "a call to succeed");
    return r;
}

static void free_results(results r) { free(r.y), free(r.states[0]), free(r.states[1]); }

static void run_file(const char *path, size_t T, size_t B, size_t token)
{
    frnn_params *params;
    const frnn_status status = frnn_params_load(path, NULL, &params);
    must_be(status == FRNN_OK, frnn_status_text(status));
    const sizes sizes = sizes_of(frnn_params_spec(params), token);
    void *x = allocate(T * B, sizes.x);
    read_all(x, T * B * sizes.x);
    const results r = run(params, T, B, x, token);
    write_all(r.y, T * B * sizes.y);
    for (int s = 0; s < FRNN_MOST_STATES; s++)
        write_all(r.states[s], B * sizes.states[s]);
    free_results(r);
    free(x);
    frnn_params_free(params);
}

/* Reads the same bytes from memory, at an odd address of exactly their size. */
static void check_memory(const char *path, frnn_status of_file)
{
    FILE *file = fopen(path, "rb");
    must_be(file && !fseek(file, 0, SEEK_END), "a file");
    const size_t bytes = (size_t)ftell(file);
    char *memory = allocate(1, bytes + 1);
    rewind(file);
    must_be(fread(memory + 1, 1, bytes, file) == bytes, "to read a file");
    fclose(file);
    frnn_params *params;
    must_be(frnn_params_read(memory + 1, bytes, frnn_target_at(frnn_target_count() - 1), &params) == of_file,
            "the answer of a file from its bytes in memory");
    if (of_file == FRNN_OK)
        frnn_params_free(params);
    free(memory);
}

static void check_file(const char *path)
{
    frnn_params *params;
    const frnn_status status = frnn_params_load(path, NULL, &params);
    printf("%s\n", frnn_status_text(status));
    if (status == FRNN_OK) {
        void *x = allocate(2, sizes_of(frnn_params_spec(params), 0).x);
        free_results(run(params, 2, 1, x, 0));
        free(x);
        frnn_params_free(params);
    }
    if (status != FRNN_NO_FILE)
        check_memory(path, status);
}

int main(int count, char **arguments)
{
    must_be(count > 2, "arguments");
    if (strcmp(arguments[1], "check") == 0)
        for (int i = 2; i < count; i++)
            check_file(arguments[i]);
    else
        run_file(arguments[1], strtoul(arguments[2], NULL, 10), strtoul(arguments[3], NULL, 10),
                 count > 4 ? strtoul(arguments[4], NULL, 10) / 8 : 0);
    return 0;
}
