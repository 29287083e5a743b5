/* The notebook's training as a loop in C, without any overhead beside a step's arithmetic.

   One linear layer, softmax cross-entropy, one row per step, four optimizers. The parameters w are one array: kernel
   (outputs, inputs), then bias. `loops.py` compiles this file and defines REAL, INPUTS, OUTPUTS, OPTIMIZER and SEPARATE:
   shapes are constants of the code, as they are for XLA. */

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <tgmath.h>

/* Subnormal numbers count as zero, as in both frameworks: Adam's m has some, and they are slow on some processors. */
#if defined(__SSE__)
#include <immintrin.h>
static uint64_t mode(void) { return _mm_getcsr(); }
static void set_mode(uint64_t bits) { _mm_setcsr((unsigned)bits); }
#define FLUSH 0x8040u
#elif defined(__aarch64__)
static uint64_t mode(void)
{
    uint64_t bits;
    __asm__ volatile("mrs %0, fpcr" : "=r"(bits));
    return bits;
}
static void set_mode(uint64_t bits) { __asm__ volatile("msr fpcr, %0" : : "r"(bits)); }
#define FLUSH (UINT64_C(1) << 24)
#else
static uint64_t mode(void) { return 0; }
static void set_mode(uint64_t bits) { (void)bits; }
#define FLUSH 0
#endif

#define ADAM 0
#define RMSPROP 1
#define SGD 2
#define ADAGRAD 3

#if SEPARATE /* a separate loop writes each array, as in XLA's code for a CPU */
#define THEN \
    } \
    for (int p = 0; p < SIZE; p++) {
#else
#define THEN
#endif

enum { KERNEL = OUTPUTS * INPUTS, SIZE = KERNEL + OUTPUTS };

/* g <- d loss / d w on one row; return the loss, log sum exp(z) - z[target] */
static REAL gradient(const REAL *w, const REAL *x, ptrdiff_t target, REAL *g)
{
    REAL z[OUTPUTS], top = -INFINITY, sum = 0;
    for (int o = 0; o < OUTPUTS; o++) {
        REAL dot = 0;
        for (int i = 0; i < INPUTS; i++)
            dot += w[o * INPUTS + i] * x[i];
        z[o] = dot + w[KERNEL + o];
        top = z[o] > top ? z[o] : top;
    }
    REAL chosen = z[target] - top;
    for (int o = 0; o < OUTPUTS; o++) {
        z[o] = exp(z[o] - top);
        sum += z[o];
    }
    for (int o = 0; o < OUTPUTS; o++) {
        REAL slope = z[o] / sum - (REAL)(o == target);
        g[KERNEL + o] = slope;
        for (int i = 0; i < INPUTS; i++)
            g[o * INPUTS + i] = slope * x[i];
    }
    return log(sum) - chosen;
}

/* The addresses of a step's four arrays differ by a quarter page in their low twelve bits. Some processors compare only
   these bits to find out whether a load needs a store that is still pending. Where malloc had placed Adam's arrays so
   that the next m, v or g seemed to need the w being divided, a step took 620 ns instead of 275 on a Zen 4, in two of
   three samples. */
enum { PAGE = 4096, ROOM = ((SIZE * sizeof(REAL) + PAGE - 1) / PAGE * PAGE + PAGE / 4) / sizeof(REAL) };

/* Make `steps` steps on the rows that `order` names, in place; the optimizer's first and second buffers begin at 0. */
void train(REAL *params, REAL *first, REAL *second, const REAL *inputs, const ptrdiff_t *targets,
           const ptrdiff_t *order, size_t steps, double learning_rate, REAL *losses)
{
    _Alignas(64) REAL memory[4][ROOM];
    REAL *w = memory[0], *m = memory[1], *v = memory[2], *g = memory[3], rate = (REAL)learning_rate;
    memcpy(w, params, SIZE * sizeof(REAL));
    memcpy(m, first, SIZE * sizeof(REAL));
    memcpy(v, second, SIZE * sizeof(REAL));
    double b1_power = 1, b2_power = 1;
    uint64_t before = mode();
    set_mode(before | FLUSH);
    for (size_t t = 0; t < steps; t++) {
        ptrdiff_t row = order[t];
        losses[t] = gradient(w, inputs + row * INPUTS, targets[row], g);
#if OPTIMIZER == ADAM
        b1_power *= 0.9;
        b2_power *= 0.999;
        REAL scale = (REAL)(learning_rate / (1 - b1_power)), root = (REAL)sqrt(1 - b2_power);
        for (int p = 0; p < SIZE; p++) {
            m[p] = (REAL)0.9 * m[p] + (REAL)0.1 * g[p];
            THEN
            v[p] = (REAL)0.999 * v[p] + (REAL)0.001 * g[p] * g[p];
            THEN
            w[p] -= scale * m[p] / ((REAL)sqrt(v[p]) / root + (REAL)1e-8);
        }
#elif OPTIMIZER == RMSPROP
        for (int p = 0; p < SIZE; p++) {
            v[p] = (REAL)0.99 * v[p] + (REAL)0.01 * g[p] * g[p];
            THEN
            w[p] -= rate * g[p] / ((REAL)sqrt(v[p]) + (REAL)1e-8);
        }
#elif OPTIMIZER == SGD
        for (int p = 0; p < SIZE; p++)
            w[p] -= rate * g[p];
#else
        for (int p = 0; p < SIZE; p++) {
            v[p] += g[p] * g[p];
            THEN
            w[p] -= rate * g[p] / ((REAL)sqrt(v[p]) + (REAL)1e-10);
        }
#endif
    }
    set_mode(before);
    memcpy(params, w, SIZE * sizeof(REAL));
    memcpy(first, m, SIZE * sizeof(REAL));
    memcpy(second, v, SIZE * sizeof(REAL));
    (void)m, (void)v, (void)rate, (void)b1_power, (void)b2_power;
}
