// Pictures of a batch to model inputs, on the GPU, as mod.rs specifies it.
//
// One launch for the whole batch, whatever the sizes and formats of its pictures. A block makes up
// to TILE columns of one row of one input: it blends the rows of a plane that this row is made from
// (every sample of a row once, side by side), then shrinks each component of the blended row to its
// columns. Weights come from integers alone, so they are exact until they are divided by their sum.
// Results are within 0.01 level of the specification.
//
// This file has no includes, and compiles with NVRTC, nvcc and a C++ compiler for the host. Threads
// share work through EACH; after TOGETHER() every thread sees what the others wrote.

#ifdef __CUDACC__
#define KERNEL extern "C" __global__ void
#define INLINE static __device__ __forceinline__
#define SHARED __shared__
#define EACH(index, count) for (int index = threadIdx.x; index < (count); index += blockDim.x)
#define TOGETHER() __syncthreads()
#else
namespace {
struct Place {
    unsigned x, y, z;
};
thread_local Place blockIdx, gridDim;
} // namespace
#define KERNEL static void
#define INLINE static inline
#define SHARED static thread_local
#define EACH(index, count) for (int index = 0; index < (count); index++)
#define TOGETHER()
#endif

// Columns of the input that a block makes.
#define TILE 128
// Blended values that a block holds at a time; wider rows go through in parts.
#define HELD 4096
// Row weights that a block holds at a time.
#define ROWS 64
// Grey level of the border.
#define BORDER 114.0f

// What the components of a pixel are. Below 0 the input is there already and nothing is done.
enum Kind { GREY = 0, RGB = 1, YUV = 2 };

// One plane of a picture.
struct Plane {
    unsigned long long address;
    // Bytes from row to row.
    int stride;
    // Samples of a group, which belong to the same pixels.
    int group;
    // Pixels that a sample covers down, and how many of those of the first row lie above the
    // picture.
    int covers, phase;
};

// One component: red, green and blue or Y, Cb and Cr.
struct Component {
    int plane;
    // Samples in a row before its first one, and from one to the next.
    int offset, step;
    // As of a plane, but across.
    int covers, phase;
};

// One picture of the batch. PictureOrder in cuda/kernels.rs is the same.
struct Picture {
    Plane planes[3];
    Component components[3];
    int kind;
    // Bytes of a sample; two of them are shifted left to make 256ths of a level.
    int bytes, shift;
    // Pixels of the picture.
    int width, height;
    // Where the picture lies in the input.
    int left, top, fit_width, fit_height;
    // As in color.rs.
    float luma_gain, luma_offset, red_v, green_u, green_v, blue_u;
    // The input in the batch that it goes to.
    int slot;
};

INLINE int count_components(const Picture &p) { return p.kind == GREY ? 1 : 3; }

// Planes are numbered without gaps.
INLINE int count_planes(const Picture &p) {
    int last = 0;
    for (int c = 0; c < count_components(p); c++)
        last = p.components[c].plane > last ? p.components[c].plane : last;
    return last + 1;
}

// One axis of the resize: a side of `pixels` pixels onto `outputs` positions. Sample j covers
// `covers` pixels from j * covers - phase on. Distances are in units of a 2 * outputs-th of a
// pixel, so all of them are integers.
struct Axis {
    int outputs, pixels, covers, phase, samples, support;
};

INLINE Axis axis(int outputs, int pixels, int covers, int phase) {
    Axis a;
    a.outputs = outputs;
    a.pixels = pixels;
    a.covers = covers;
    a.phase = phase;
    a.samples = (pixels + phase + covers - 1) / covers;
    a.support = 2 * (outputs * covers > pixels ? outputs * covers : pixels);
    return a;
}

// The triangle filter: the weight of a sample in an output, before the weights are divided by their
// sum.
INLINE int weight(Axis a, int output, int sample) {
    int distance =
        ((2 * sample + 1) * a.covers - 2 * a.phase) * a.outputs - (2 * output + 1) * a.pixels;
    return a.support - (distance < 0 ? -distance : distance);
}

// The first sample of an output.
INLINE int first(Axis a, int output) {
    int before = (2 * output + 1) * a.pixels - a.support + (2 * a.phase - a.covers) * a.outputs;
    return before < 0 ? 0 : before / (2 * a.covers * a.outputs) + 1;
}

// The sample after the last one of an output.
INLINE int end(Axis a, int output) {
    int behind = (2 * output + 1) * a.pixels + a.support + (2 * a.phase - a.covers) * a.outputs;
    int sample = (behind + 2 * a.covers * a.outputs - 1) / (2 * a.covers * a.outputs);
    return sample < a.samples ? sample : a.samples;
}

INLINE Axis axis(const Picture &p, const Component &c) {
    return axis(p.fit_width, p.width, c.covers, c.phase);
}

INLINE Axis axis(const Picture &p, const Plane &plane) {
    return axis(p.fit_height, p.height, plane.covers, plane.phase);
}

// A sample's level.
INLINE float sample(const Picture &p, const unsigned char *at) {
    if (p.bytes == 1) return (float)*at;
    return (float)(((at[0] | at[1] << 8) << p.shift) & 0xffff) * (1.0f / 256.0f);
}

INLINE float level(float value) { return value < 0.0f ? 0.0f : value > 255.0f ? 255.0f : value; }

KERNEL preprocess(const Picture *pictures, float *inputs, int input_width, int input_height) {
    SHARED float blended[HELD];
    SHARED float row_weights[ROWS];
    SHARED float sums[3][TILE];
    SHARED float row_sum;
    const Picture &p = pictures[blockIdx.z];
    if (p.kind < 0) return;
    const int y = blockIdx.y;
    const int tile = blockIdx.x * TILE;
    const int tile_end = tile + TILE < input_width ? tile + TILE : input_width;
    const int plane_size = input_width * input_height;
    float *out = inputs + (long long)p.slot * 3 * plane_size + y * input_width;
    // The part of the tile that lies in the picture, in the picture's own columns.
    const int row = y - p.top;
    int from = tile - p.left < 0 ? 0 : tile - p.left;
    int to = tile_end - p.left < p.fit_width ? tile_end - p.left : p.fit_width;
    if (row < 0 || row >= p.fit_height) to = from;
    const int columns = to > from ? to - from : 0;

    EACH(t, tile_end - tile) {
        const int x = tile + t - p.left;
        if (columns == 0 || x < 0 || x >= p.fit_width) {
            out[tile + t] = BORDER;
            out[tile + t + plane_size] = BORDER;
            out[tile + t + 2 * plane_size] = BORDER;
        }
    }
    if (columns == 0) return;

    EACH(t, columns) {
        for (int c = 0; c < 3; c++) sums[c][t] = 0.0f;
    }
    const int components = count_components(p), planes = count_planes(p);
    for (int index = 0; index < planes; index++) {
        const Plane &plane = p.planes[index];
        const Axis down = axis(p, plane);
        const unsigned char *data = (const unsigned char *)plane.address;
        const int row_first = first(down, row), row_end = end(down, row);
        // The groups that hold what these columns are made from, in samples.
        int window = 0x7fffffff, window_end = 0;
        for (int c = 0; c < components; c++) {
            const Component &component = p.components[c];
            if (component.plane != index) continue;
            const Axis across = axis(p, component);
            const int begin = component.offset + first(across, from) * component.step;
            const int last = component.offset + (end(across, to - 1) - 1) * component.step;
            if (begin < window) window = begin;
            if (last >= window_end) window_end = last + 1;
        }
        window -= window % plane.group;
        const int part = HELD / plane.group * plane.group;

        TOGETHER();
        EACH(t, 1) {
            unsigned sum = 0;
            for (int j = row_first; j < row_end; j++) sum += weight(down, row, j);
            row_sum = (float)sum;
        }
        for (int start = window; start < window_end; start += part) {
            const int stop = start + part < window_end ? start + part : window_end;
            for (int rows = row_first; rows < row_end; rows += ROWS) {
                const int count = row_end - rows < ROWS ? row_end - rows : ROWS;
                TOGETHER();
                EACH(j, count) row_weights[j] = (float)weight(down, row, rows + j) / row_sum;
                TOGETHER();
                EACH(i, stop - start) {
                    const unsigned char *at =
                        data + (long long)rows * plane.stride + (start + i) * p.bytes;
                    float sum = rows == row_first ? 0.0f : blended[i];
                    for (int j = 0; j < count; j++) {
                        sum += row_weights[j] * sample(p, at);
                        at += plane.stride;
                    }
                    blended[i] = sum;
                }
            }
            TOGETHER();
            EACH(t, columns) {
                for (int c = 0; c < components; c++) {
                    const Component &component = p.components[c];
                    if (component.plane != index) continue;
                    const Axis across = axis(p, component);
                    const int column = from + t, step = component.step, offset = component.offset;
                    int j = first(across, column), behind = end(across, column);
                    // The samples between start and stop.
                    const int held = start > offset ? (start - offset + step - 1) / step : 0;
                    const int held_end = stop > offset ? (stop - offset + step - 1) / step : 0;
                    if (j < held) j = held;
                    if (behind > held_end) behind = held_end;
                    float sum = sums[c][t];
                    for (; j < behind; j++) {
                        sum +=
                            (float)weight(across, column, j) * blended[offset + j * step - start];
                    }
                    sums[c][t] = sum;
                }
            }
            TOGETHER();
        }
    }
    EACH(t, columns) {
        for (int c = 0; c < components; c++) {
            const Axis across = axis(p, p.components[c]);
            const int column = from + t;
            unsigned sum = 0;
            for (int j = first(across, column); j < end(across, column); j++)
                sum += weight(across, column, j);
            sums[c][t] /= (float)sum;
        }
    }
    TOGETHER();

    EACH(t, columns) {
        float red = sums[0][t], green = sums[1][t], blue = sums[2][t];
        if (p.kind != RGB) {
            const float luma = sums[0][t] * p.luma_gain + p.luma_offset;
            red = green = blue = luma;
            if (p.kind == YUV) {
                const float u = sums[1][t] - 128.0f, v = sums[2][t] - 128.0f;
                red = luma + p.red_v * v;
                green = luma + p.green_u * u + p.green_v * v;
                blue = luma + p.blue_u * u;
            }
        }
        const int x = p.left + from + t;
        out[x] = level(red);
        out[x + plane_size] = level(green);
        out[x + 2 * plane_size] = level(blue);
    }
}

#ifndef __CUDACC__
// The launch on the host: the grid's blocks one after the other.
extern "C" void preprocess_on_host(unsigned x, unsigned y, unsigned z, void **arguments) {
    gridDim = {x, y, z};
    for (blockIdx.z = 0; blockIdx.z < z; blockIdx.z++)
        for (blockIdx.y = 0; blockIdx.y < y; blockIdx.y++)
            for (blockIdx.x = 0; blockIdx.x < x; blockIdx.x++)
                preprocess(*(const Picture **)arguments[0], *(float **)arguments[1],
                           *(int *)arguments[2], *(int *)arguments[3]);
}
#endif
