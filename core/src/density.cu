// Density maps of a batch to counts, on the GPU: the whole frame's and each region's. The twin of
// DensityMap::count and Coverage::count.
//
// Result 0 of a frame is the sum of its cells, which is finite only if every cell is: what no
// number may pass by. Result r is the sum of the cells times the weights of region r - 1. Sums are
// in 32 bits over 128 partial sums: within 4e-6 of the sum of the cells' magnitudes.
//
// This file has no includes, and compiles with NVRTC, nvcc and a C++ compiler for the host; see
// preprocess/kernel.cu.

#ifdef __CUDACC__
#define KERNEL extern "C" __global__ void
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
#define SHARED static thread_local
#define EACH(index, count) for (int index = 0; index < (count); index++)
#define TOGETHER()
#endif

#define PARTS 128

// One frame of the batch. CountOrder in cuda/kernels.rs is the same.
struct Order {
    // Address of the weights, region by region, each as long as the density map.
    unsigned long long weights;
    int regions;
    int padding;
};

KERNEL count(const Order *orders, const float *density, float *results, int cells,
             int results_stride) {
    SHARED float parts[PARTS];
    const int frame = blockIdx.y;
    const Order order = orders[frame];
    const float *map = density + (long long)frame * cells;
    for (int result = blockIdx.x; result <= order.regions; result += gridDim.x) {
        const float *weights = (const float *)order.weights + (long long)(result - 1) * cells;
        TOGETHER();
        EACH(part, PARTS) {
            float sum = 0.0f;
            for (int cell = part; cell < cells; cell += PARTS)
                sum += result == 0 ? map[cell] : map[cell] * weights[cell];
            parts[part] = sum;
        }
        for (int half = PARTS / 2; half > 0; half /= 2) {
            TOGETHER();
            EACH(part, half) parts[part] += parts[part + half];
        }
        TOGETHER();
        EACH(part, 1) results[(long long)frame * results_stride + result] = parts[0];
    }
}

#ifndef __CUDACC__
// The launch on the host: the grid's blocks one after the other.
extern "C" void count_on_host(unsigned x, unsigned y, unsigned z, void **arguments) {
    gridDim = {x, y, z};
    for (blockIdx.z = 0; blockIdx.z < z; blockIdx.z++)
        for (blockIdx.y = 0; blockIdx.y < y; blockIdx.y++)
            for (blockIdx.x = 0; blockIdx.x < x; blockIdx.x++)
                count(*(const Order **)arguments[0], *(const float **)arguments[1],
                      *(float **)arguments[2], *(int *)arguments[3], *(int *)arguments[4]);
}
#endif
