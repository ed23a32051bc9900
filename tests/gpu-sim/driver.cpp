// A stand-in for NVIDIA's libcuda.so.1: the calls that the counter and GStreamer's libgstcuda use,
// served from host memory. See lib.rs.
//
// Device memory is host memory at the same address. Each stream is a thread with a queue. A call
// that NVIDIA's driver refuses (no current context, a dead handle, a wait inside a capture) is
// refused here too.

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "preprocess/kernel.cu"
extern "C" void count_on_host(unsigned, unsigned, unsigned, void **);

#define API extern "C" __attribute__((visibility("default")))

namespace {

enum Code {
    OK = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    NOT_READY = 600,
    ILLEGAL_ADDRESS = 700,
    LAUNCH_FAILED = 719,
    NOT_SUPPORTED = 801,
    CAPTURE_UNSUPPORTED = 900,
    CAPTURE_INVALIDATED = 901,
    UNKNOWN = 999,
};

long setting(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text ? atol(text) : otherwise;
}

typedef std::function<void()> Work;

struct Graph {
    std::vector<Work> works;
};

struct EventState {
    bool recorded = false, done = false;
    std::chrono::steady_clock::time_point time;
};

struct Event {
    std::shared_ptr<EventState> state = std::make_shared<EventState>();
};

struct Stream {
    std::deque<Work> queue;
    bool busy = false, ending = false, held = false;
    Graph *capture = nullptr;
    bool spoilt = false;
    std::thread thread;
};

struct Context {
    int device;
    int users;
};

struct Allocation {
    size_t bytes;
    bool pinned;
    bool shared = false; // An EGL image's: somebody else's memory.
};

// What an EGL image is in tests: tests/deepstream/include/standin.h makes them.
struct EglImage {
    uint64_t magic;
    void *data;
    uint64_t bytes;
    uint32_t width, height, pitch, frame_type;
};
const uint64_t EGL_MAGIC = 0x45474c696d616765ull;

struct EglFrame {
    void *planes[3];
    unsigned width, height, depth, pitch, plane_count, channels;
    int frame_type, color_format, array_format;
};

struct Function {
    std::string name;
    std::vector<size_t> arguments;
    void (*run)(unsigned, unsigned, unsigned, void **);
};

struct Module {
    std::string image;
    std::map<std::string, Function> functions;
};

// Never destroyed: the default stream's thread waits on them when the process ends.
std::mutex &mutex = *new std::mutex;
std::condition_variable &changed = *new std::condition_variable;
bool initialized = false, holding = false;
long devices = setting("VEHICLECOUNT_SIM_DEVICES", 1);
long version = setting("VEHICLECOUNT_SIM_VERSION", 12040);
long init_code = setting("VEHICLECOUNT_SIM_INIT", OK);
size_t capacity = setting("VEHICLECOUNT_SIM_MEMORY", 2l << 30);
long fail_allocation = setting("VEHICLECOUNT_SIM_FAIL_ALLOCATION", 0),
     fail_launch = setting("VEHICLECOUNT_SIM_FAIL_LAUNCH", 0), fail_image = 0;
std::atomic<int> lost{0};
std::map<uintptr_t, Allocation> allocations;
std::set<void *> streams, events, graphs, modules, contexts;
std::map<void *, EglImage> resources;
std::map<int, Context *> primaries;
int64_t launches, captures, replays, uploaded, downloaded, all_allocations, all_streams;
size_t used, pinned_bytes;
thread_local std::vector<Context *> current;

#define CHECK(condition, code)                                                                     \
    do {                                                                                           \
        if (!(condition)) return code;                                                             \
    } while (0)
#define ALIVE()                                                                                    \
    do {                                                                                           \
        if (lost) return lost;                                                                     \
        if (!initialized) return NOT_INITIALIZED;                                                  \
    } while (0)
#define CURRENT()                                                                                  \
    do {                                                                                           \
        ALIVE();                                                                                   \
        if (current.empty() || !current.back()) return INVALID_CONTEXT;                            \
    } while (0)

// The allocation that holds so many bytes from an address on; with the lock held.
const Allocation *holder(uintptr_t address, size_t bytes) {
    auto at = allocations.upper_bound(address);
    if (at == allocations.begin()) return nullptr;
    --at;
    return address + bytes <= at->first + at->second.bytes ? &at->second : nullptr;
}

bool on_device(uintptr_t address, size_t bytes) {
    std::lock_guard<std::mutex> lock(mutex);
    return holder(address, bytes) != nullptr;
}

bool pinned(const void *pointer, size_t bytes) {
    std::lock_guard<std::mutex> lock(mutex);
    const Allocation *found = holder((uintptr_t)pointer, bytes);
    return found && found->pinned;
}

void serve(Stream *stream) {
    std::unique_lock<std::mutex> lock(mutex);
    for (;;) {
        changed.wait(lock, [&] {
            return stream->ending || (!stream->queue.empty() && !holding && !stream->held);
        });
        if (stream->queue.empty() && stream->ending) return;
        if (stream->queue.empty()) continue;
        Work work = std::move(stream->queue.front());
        stream->queue.pop_front();
        stream->busy = true;
        lock.unlock();
        // A device that is gone does nothing more, but nobody waits for it for ever.
        std::this_thread::yield();
        work();
        lock.lock();
        stream->busy = false;
        changed.notify_all();
    }
}

Stream *new_stream() {
    Stream *stream = new Stream;
    stream->thread = std::thread(serve, stream);
    return stream;
}

// The default stream, which needs no handle.
Stream *found(void *handle) {
    static Stream *standard = new_stream();
    if (!handle || handle == (void *)1 || handle == (void *)2) return standard;
    std::lock_guard<std::mutex> lock(mutex);
    return streams.count(handle) ? (Stream *)handle : nullptr;
}

// Puts work on a stream, or into the graph that the stream is recorded to.
int put(void *handle, Work work) {
    Stream *stream = found(handle);
    CHECK(stream, INVALID_HANDLE);
    std::lock_guard<std::mutex> lock(mutex);
    if (stream->capture) {
        stream->capture->works.push_back(std::move(work));
    } else {
        stream->queue.push_back(std::move(work));
        changed.notify_all();
    }
    return OK;
}

int wait(Stream *stream) {
    std::unique_lock<std::mutex> lock(mutex);
    if (stream->capture) {
        stream->spoilt = true;
        return CAPTURE_UNSUPPORTED;
    }
    changed.wait(lock, [&] { return stream->queue.empty() && !stream->busy; });
    return lost;
}

void wait_for_all() {
    std::vector<Stream *> all;
    {
        std::lock_guard<std::mutex> lock(mutex);
        for (void *stream : streams) all.push_back((Stream *)stream);
    }
    for (Stream *stream : all) {
        std::unique_lock<std::mutex> lock(mutex);
        changed.wait(lock, [&] {
            return !streams.count(stream) || (stream->queue.empty() && !stream->busy);
        });
    }
}

int allocate(uintptr_t *address, size_t bytes, bool is_pinned) {
    {
        std::lock_guard<std::mutex> lock(mutex);
        CHECK(bytes > 0, INVALID_VALUE);
        all_allocations++;
        if (fail_allocation > 0 && --fail_allocation == 0) return OUT_OF_MEMORY;
        if (!is_pinned && used + bytes > capacity) return OUT_OF_MEMORY;
    }
    void *memory = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    CHECK(memory, OUT_OF_MEMORY);
    // As f32: NaN.
    memset(memory, 0xff, bytes);
    std::lock_guard<std::mutex> lock(mutex);
    allocations[(uintptr_t)memory] = {bytes, is_pinned};
    (is_pinned ? pinned_bytes : used) += bytes;
    *address = (uintptr_t)memory;
    return OK;
}

int release(uintptr_t address, bool is_pinned) {
    // As NVIDIA's: freeing waits for the work that may use the memory.
    wait_for_all();
    std::lock_guard<std::mutex> lock(mutex);
    auto at = allocations.find(address);
    CHECK(at != allocations.end() && at->second.pinned == is_pinned && !at->second.shared,
          INVALID_VALUE);
    (is_pinned ? pinned_bytes : used) -= at->second.bytes;
    memset((void *)address, 0xee, at->second.bytes);
    free((void *)address);
    allocations.erase(at);
    return OK;
}

// One copy of bytes, on its stream. Memory that is not pinned is read now, as NVIDIA's driver does.
int copy(void *stream, uintptr_t to, uintptr_t from, size_t bytes, bool to_host, bool from_host) {
    CURRENT();
    if (bytes == 0) return OK;
    std::shared_ptr<std::vector<char>> held;
    if (from_host && !pinned((void *)from, bytes)) {
        held = std::make_shared<std::vector<char>>((char *)from, (char *)from + bytes);
    }
    bool at_once = to_host && !pinned((void *)to, bytes);
    int code = put(stream, [=] {
        if (lost) return;
        if ((!to_host && !on_device(to, bytes)) || (!from_host && !on_device(from, bytes))) {
            fprintf(stderr, "simulated GPU: a copy of %zu bytes leaves its memory\n", bytes);
            lost = ILLEGAL_ADDRESS;
            return;
        }
        memcpy((void *)to, held ? held->data() : (void *)from, bytes);
        std::lock_guard<std::mutex> lock(mutex);
        if (from_host) uploaded += bytes;
        if (to_host) downloaded += bytes;
    });
    CHECK(code == OK, code);
    return at_once ? wait(found(stream)) : OK;
}

// The pictures of a launch lie in memory that is there.
bool right_pictures(const std::vector<std::vector<char>> &arguments, unsigned count) {
    const Picture *pictures = *(const Picture **)arguments[0].data();
    if (!on_device((uintptr_t)pictures, count * sizeof(Picture))) return false;
    int width = *(int *)arguments[2].data(), height = *(int *)arguments[3].data();
    for (unsigned i = 0; i < count; i++) {
        const Picture &p = pictures[i];
        size_t input = 3ul * width * height * sizeof(float);
        if (p.slot < 0 || !on_device(*(uintptr_t *)arguments[1].data() + p.slot * input, input))
            return false;
        if (p.kind < 0) continue;
        for (int c = 0; c < count_components(p); c++) {
            const Component &component = p.components[c];
            const Plane &plane = p.planes[component.plane];
            size_t rows = axis(p, plane).samples;
            size_t row =
                (component.offset + (axis(p, component).samples - 1) * component.step + 1) *
                p.bytes;
            if (!on_device(plane.address, plane.stride * (rows - 1) + row)) return false;
        }
    }
    return true;
}

const char *const NAMES[][3] = {
    {"2", "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {"100", "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {"700", "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {"719", "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {"803", "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
     "system has unsupported display driver / cuda driver combination"},
    {"999", "CUDA_ERROR_UNKNOWN", "unknown error"}};

int name_of(int code, const char **text, int column) {
    for (auto &row : NAMES)
        if (atoi(row[0]) == code) return *text = row[column], OK;
    // Results of CUDA 12.8, which this driver does not know.
    if (code == 226 || code == 721) return *text = nullptr, INVALID_VALUE;
    *text = column == 1 ? "CUDA_ERROR_OTHER" : "simulated error";
    return OK;
}

} // namespace

// ---- what tests steer; all of one type ----

API int64_t sim_figure(int64_t which, int64_t, int64_t) {
    std::lock_guard<std::mutex> lock(mutex);
    int64_t device = 0, host = 0;
    for (auto &allocation : allocations)
        if (!allocation.second.shared) (allocation.second.pinned ? host : device)++;
    int64_t primary = 0;
    for (auto &context : primaries) primary += context.second->users;
    switch (which) {
    case 0:
        return device;
    case 1:
        return host;
    case 2:
        return streams.size();
    case 3:
        return events.size();
    case 4:
        return graphs.size();
    case 5:
        return modules.size();
    case 6:
        return contexts.size() + primary;
    case 7:
        return used;
    case 8:
        return pinned_bytes;
    case 9:
        return resources.size();
    case 16:
        return launches;
    case 17:
        return captures;
    case 18:
        return replays;
    case 19:
        return uploaded;
    case 20:
        return downloaded;
    case 21:
        return all_allocations;
    case 22:
        return all_streams;
    }
    return -1;
}

API int64_t sim_configure(int64_t count, int64_t number, int64_t code) {
    std::lock_guard<std::mutex> lock(mutex);
    devices = count, version = number, init_code = code;
    return 0;
}

API int64_t sim_fail_allocation(int64_t nth, int64_t, int64_t) {
    std::lock_guard<std::mutex> lock(mutex);
    fail_allocation = nth;
    return 0;
}

API int64_t sim_fail_launch(int64_t nth, int64_t, int64_t) {
    std::lock_guard<std::mutex> lock(mutex);
    fail_launch = nth;
    return 0;
}

API int64_t sim_fail_image(int64_t nth, int64_t, int64_t) {
    std::lock_guard<std::mutex> lock(mutex);
    fail_image = nth;
    return 0;
}

// Memory that a library in the process took from the GPU by itself, and gives back.
API int64_t sim_share(int64_t address, int64_t bytes, int64_t) {
    std::lock_guard<std::mutex> lock(mutex);
    if (bytes)
        allocations[address] = {(size_t)bytes, false, true};
    else
        allocations.erase(address);
    return 0;
}

API int64_t sim_lose(int64_t code, int64_t, int64_t) {
    std::lock_guard<std::mutex> lock(mutex);
    lost = code;
    changed.notify_all();
    return 0;
}

API int64_t sim_hold(int64_t on, int64_t, int64_t) {
    std::lock_guard<std::mutex> lock(mutex);
    holding = on;
    changed.notify_all();
    return 0;
}

// One stream stops before its next work, or goes on.
API int64_t sim_hold_stream(int64_t stream, int64_t on, int64_t) {
    std::lock_guard<std::mutex> lock(mutex);
    if (!streams.count((void *)stream)) return -1;
    ((Stream *)stream)->held = on;
    changed.notify_all();
    return 0;
}

API int64_t sim_wait_for_waiting(int64_t count, int64_t milliseconds, int64_t) {
    std::unique_lock<std::mutex> lock(mutex);
    return changed.wait_for(lock, std::chrono::milliseconds(milliseconds), [&] {
        int64_t waiting = 0;
        for (void *stream : streams) waiting += ((Stream *)stream)->queue.size();
        return waiting >= count;
    });
}

// ---- the driver ----

API int cuInit(unsigned flags) {
    CHECK(flags == 0, INVALID_VALUE);
    std::lock_guard<std::mutex> lock(mutex);
    if (init_code != OK) return init_code;
    if (devices == 0) return NO_DEVICE;
    initialized = true;
    return OK;
}

API int cuDriverGetVersion(int *number) { return *number = version, OK; }
API int cuGetErrorName(int code, const char **text) { return name_of(code, text, 1); }
API int cuGetErrorString(int code, const char **text) { return name_of(code, text, 2); }

API int cuDeviceGetCount(int *count) {
    ALIVE();
    return *count = devices, OK;
}

API int cuDeviceGet(int *device, int index) {
    ALIVE();
    CHECK(index >= 0 && index < devices, INVALID_DEVICE);
    return *device = index, OK;
}

API int cuDeviceGetName(char *name, int length, int device) {
    ALIVE();
    const char *model = getenv("VEHICLECOUNT_SIM_NAME");
    if (model)
        snprintf(name, length, "%s", model);
    else
        snprintf(name, length, "Simulated GPU %d (host memory, for tests)", device);
    return OK;
}

API int cuDeviceGetAttribute(int *value, int attribute, int) {
    ALIVE();
    switch (attribute) {
    case 75:
        *value = 8;
        break;
    case 76:
        *value = 9;
        break;
    case 16:
        *value = setting("VEHICLECOUNT_SIM_MULTIPROCESSORS", 2);
        break;
    case 14:
        *value = 256;
        break; // Texture alignment.
    case 41:
        *value = 1;
        break; // Unified addressing.
    default:
        *value = 0;
    }
    return OK;
}

API int cuDeviceTotalMem_v2(size_t *bytes, int) {
    ALIVE();
    return *bytes = capacity, OK;
}

API int cuDeviceGetUuid(char *uuid, int device) {
    ALIVE();
    memset(uuid, 0, 16);
    return uuid[15] = device + 1, OK;
}

API int cuDeviceGetUuid_v2(char *uuid, int device) { return cuDeviceGetUuid(uuid, device); }

API int cuDevicePrimaryCtxRetain(void **context, int device) {
    ALIVE();
    CHECK(device >= 0 && device < devices, INVALID_DEVICE);
    std::lock_guard<std::mutex> lock(mutex);
    Context *&primary = primaries[device];
    if (!primary) primary = new Context{device, 0};
    primary->users++;
    return *context = primary, OK;
}

API int cuDevicePrimaryCtxRelease_v2(int device) {
    std::lock_guard<std::mutex> lock(mutex);
    CHECK(primaries.count(device) && primaries[device]->users > 0, INVALID_CONTEXT);
    primaries[device]->users--;
    return lost;
}

API int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) {
    std::lock_guard<std::mutex> lock(mutex);
    *flags = 0;
    return *active = primaries.count(device) && primaries[device]->users > 0, OK;
}

API int cuCtxCreate_v2(void **context, unsigned, int device) {
    ALIVE();
    Context *made = new Context{device, 1};
    std::lock_guard<std::mutex> lock(mutex);
    contexts.insert(made);
    current.push_back(made);
    return *context = made, OK;
}

API int cuCtxCreate_v3(void **context, void *, int, unsigned flags, int device) {
    return cuCtxCreate_v2(context, flags, device);
}

API int cuCtxDestroy_v2(void *context) {
    std::lock_guard<std::mutex> lock(mutex);
    CHECK(contexts.erase(context), INVALID_CONTEXT);
    if (!current.empty() && current.back() == context) current.pop_back();
    return delete (Context *)context, OK;
}

// A thread may enter and leave also where the device is lost: what it then does fails.
API int cuCtxPushCurrent_v2(void *context) {
    CHECK(context, INVALID_CONTEXT);
    current.push_back((Context *)context);
    return OK;
}

API int cuCtxPopCurrent_v2(void **context) {
    CHECK(!current.empty(), INVALID_CONTEXT);
    if (context) *context = current.back();
    return current.pop_back(), OK;
}

API int cuCtxSetCurrent(void *context) {
    if (current.empty()) current.push_back(nullptr);
    return current.back() = (Context *)context, OK;
}

API int cuCtxGetCurrent(void **context) {
    return *context = current.empty() ? nullptr : current.back(), OK;
}

API int cuCtxGetDevice(int *device) {
    CURRENT();
    return *device = current.back()->device, OK;
}

API int cuCtxSynchronize() {
    CURRENT();
    wait_for_all();
    return lost;
}

API int cuCtxEnablePeerAccess(void *, unsigned) { return NOT_SUPPORTED; }
API int cuCtxDisablePeerAccess(void *) { return NOT_SUPPORTED; }
API int cuDeviceCanAccessPeer(int *can, int, int) { return *can = 0, OK; }

// ---- memory ----

API int cuMemGetInfo_v2(size_t *available, size_t *total) {
    CURRENT();
    std::lock_guard<std::mutex> lock(mutex);
    *available = capacity - used;
    return *total = capacity, OK;
}

API int cuMemAlloc_v2(uintptr_t *address, size_t bytes) {
    CURRENT();
    return allocate(address, bytes, false);
}

API int cuMemAllocPitch_v2(uintptr_t *address, size_t *pitch, size_t width, size_t height,
                           unsigned) {
    CURRENT();
    *pitch = (width + 511) / 512 * 512;
    return allocate(address, *pitch * height, false);
}

API int cuMemFree_v2(uintptr_t address) {
    if (current.empty()) return INVALID_CONTEXT;
    return release(address, false);
}

API int cuMemHostAlloc(void **memory, size_t bytes, unsigned) {
    CURRENT();
    return allocate((uintptr_t *)memory, bytes, true);
}

API int cuMemAllocHost_v2(void **memory, size_t bytes) { return cuMemHostAlloc(memory, bytes, 0); }

API int cuMemFreeHost(void *memory) {
    if (current.empty()) return INVALID_CONTEXT;
    return release((uintptr_t)memory, true);
}

API int cuMemcpyHtoDAsync_v2(uintptr_t to, const void *from, size_t bytes, void *stream) {
    return copy(stream, to, (uintptr_t)from, bytes, false, true);
}

API int cuMemcpyDtoHAsync_v2(void *to, uintptr_t from, size_t bytes, void *stream) {
    return copy(stream, (uintptr_t)to, from, bytes, true, false);
}

API int cuMemcpyDtoDAsync_v2(uintptr_t to, uintptr_t from, size_t bytes, void *stream) {
    return copy(stream, to, from, bytes, false, false);
}

API int cuMemcpyHtoD_v2(uintptr_t to, const void *from, size_t bytes) {
    int code = cuMemcpyHtoDAsync_v2(to, from, bytes, nullptr);
    return code ? code : wait(found(nullptr));
}

API int cuMemcpyDtoH_v2(void *to, uintptr_t from, size_t bytes) {
    int code = cuMemcpyDtoHAsync_v2(to, from, bytes, nullptr);
    return code ? code : wait(found(nullptr));
}

struct Copy2D {
    size_t from_x, from_y;
    int from_type;
    const void *from_host;
    uintptr_t from_device;
    void *from_array;
    size_t from_pitch, to_x, to_y;
    int to_type;
    void *to_host;
    uintptr_t to_device;
    void *to_array;
    size_t to_pitch, width, height;
};

API int cuMemcpy2DAsync_v2(const Copy2D *c, void *stream) {
    CURRENT();
    CHECK(c->from_type != 3 && c->to_type != 3, NOT_SUPPORTED);
    for (size_t row = 0; row < c->height; row++) {
        bool from_host = c->from_type == 1, to_host = c->to_type == 1;
        uintptr_t from = (from_host ? (uintptr_t)c->from_host : c->from_device) +
                         (c->from_y + row) * c->from_pitch + c->from_x;
        uintptr_t to = (to_host ? (uintptr_t)c->to_host : c->to_device) +
                       (c->to_y + row) * c->to_pitch + c->to_x;
        int code = copy(stream, to, from, c->width, to_host, from_host);
        CHECK(code == OK, code);
    }
    return OK;
}

API int cuMemcpy2D_v2(const Copy2D *c) {
    int code = cuMemcpy2DAsync_v2(c, nullptr);
    return code ? code : wait(found(nullptr));
}

API int cuMemsetD32Async(uintptr_t to, unsigned value, size_t count, void *stream) {
    CURRENT();
    return put(stream, [=] {
        if (lost) return;
        if (!on_device(to, count * 4)) {
            lost = ILLEGAL_ADDRESS;
            return;
        }
        for (size_t i = 0; i < count; i++) ((unsigned *)to)[i] = value;
    });
}

API int cuMemsetD8Async(uintptr_t to, unsigned char value, size_t count, void *stream) {
    CURRENT();
    return put(stream, [=] {
        if (lost) return;
        if (!on_device(to, count)) {
            lost = ILLEGAL_ADDRESS;
            return;
        }
        memset((void *)to, value, count);
    });
}

// ---- streams and events ----

API int cuStreamCreate(void **stream, unsigned) {
    CURRENT();
    Stream *made = new_stream();
    std::lock_guard<std::mutex> lock(mutex);
    streams.insert(made);
    all_streams++;
    return *stream = made, OK;
}

API int cuStreamCreateWithPriority(void **stream, unsigned flags, int) {
    return cuStreamCreate(stream, flags);
}

API int cuStreamDestroy_v2(void *handle) {
    Stream *stream = found(handle);
    CHECK(stream && handle, INVALID_HANDLE);
    {
        std::lock_guard<std::mutex> lock(mutex);
        stream->ending = true;
        streams.erase(handle);
        changed.notify_all();
    }
    stream->thread.join();
    return delete stream, lost;
}

API int cuStreamDestroy(void *handle) { return cuStreamDestroy_v2(handle); }

API int cuStreamSynchronize(void *handle) {
    Stream *stream = found(handle);
    CHECK(stream, INVALID_HANDLE);
    return wait(stream);
}

API int cuStreamQuery(void *handle) {
    Stream *stream = found(handle);
    CHECK(stream, INVALID_HANDLE);
    std::lock_guard<std::mutex> lock(mutex);
    if (lost) return lost;
    return stream->queue.empty() && !stream->busy ? OK : NOT_READY;
}

API int cuEventCreate(void **event, unsigned) {
    CURRENT();
    Event *made = new Event;
    std::lock_guard<std::mutex> lock(mutex);
    events.insert(made);
    return *event = made, OK;
}

API int cuEventDestroy_v2(void *event) {
    std::lock_guard<std::mutex> lock(mutex);
    CHECK(events.erase(event), INVALID_HANDLE);
    return delete (Event *)event, lost;
}

API int cuEventRecord(void *handle, void *stream) {
    CURRENT();
    std::shared_ptr<EventState> state = std::make_shared<EventState>();
    {
        std::lock_guard<std::mutex> lock(mutex);
        CHECK(events.count(handle), INVALID_HANDLE);
        state->recorded = true;
        ((Event *)handle)->state = state;
    }
    return put(stream, [state] {
        std::lock_guard<std::mutex> lock(mutex);
        state->done = true;
        state->time = std::chrono::steady_clock::now();
        changed.notify_all();
    });
}

API int cuEventSynchronize(void *handle) {
    CURRENT();
    std::unique_lock<std::mutex> lock(mutex);
    CHECK(events.count(handle), INVALID_HANDLE);
    std::shared_ptr<EventState> state = ((Event *)handle)->state;
    changed.wait(lock, [&] { return !state->recorded || state->done; });
    return lost;
}

API int cuEventQuery(void *handle) {
    CURRENT();
    std::lock_guard<std::mutex> lock(mutex);
    CHECK(events.count(handle), INVALID_HANDLE);
    EventState &state = *((Event *)handle)->state;
    return !state.recorded || state.done ? OK : NOT_READY;
}

API int cuEventElapsedTime(float *milliseconds, void *from, void *to) {
    CURRENT();
    std::lock_guard<std::mutex> lock(mutex);
    CHECK(events.count(from) && events.count(to), INVALID_HANDLE);
    EventState &a = *((Event *)from)->state, &b = *((Event *)to)->state;
    CHECK(a.recorded && b.recorded, INVALID_HANDLE);
    CHECK(a.done && b.done, NOT_READY);
    *milliseconds = std::chrono::duration<float, std::milli>(b.time - a.time).count();
    return OK;
}

API int cuStreamWaitEvent(void *stream, void *handle, unsigned) {
    CURRENT();
    std::shared_ptr<EventState> state;
    {
        std::lock_guard<std::mutex> lock(mutex);
        CHECK(events.count(handle), INVALID_HANDLE);
        state = ((Event *)handle)->state;
    }
    return put(stream, [state] {
        std::unique_lock<std::mutex> lock(mutex);
        changed.wait(lock, [&] { return !state->recorded || state->done; });
    });
}

// ---- graphs ----

API int cuStreamBeginCapture_v2(void *handle, int) {
    CURRENT();
    Stream *stream = found(handle);
    CHECK(stream && handle, INVALID_HANDLE);
    std::lock_guard<std::mutex> lock(mutex);
    CHECK(!stream->capture, CAPTURE_UNSUPPORTED);
    stream->capture = new Graph;
    stream->spoilt = false;
    return OK;
}

API int cuStreamIsCapturing(void *handle, int *status) {
    Stream *stream = found(handle);
    CHECK(stream, INVALID_HANDLE);
    std::lock_guard<std::mutex> lock(mutex);
    return *status = stream->capture ? 1 : 0, OK;
}

API int cuStreamEndCapture(void *handle, void **graph) {
    Stream *stream = found(handle);
    CHECK(stream, INVALID_HANDLE);
    std::lock_guard<std::mutex> lock(mutex);
    CHECK(stream->capture, CAPTURE_UNSUPPORTED);
    Graph *made = stream->capture;
    stream->capture = nullptr;
    *graph = nullptr;
    if (stream->spoilt || lost) {
        delete made;
        return lost ? (int)lost : CAPTURE_INVALIDATED;
    }
    captures++;
    graphs.insert(made);
    return *graph = made, OK;
}

API int cuGraphInstantiateWithFlags(void **exec, void *graph, uint64_t) {
    CURRENT();
    std::lock_guard<std::mutex> lock(mutex);
    CHECK(graphs.count(graph), INVALID_HANDLE);
    Graph *made = new Graph(*(Graph *)graph);
    graphs.insert(made);
    return *exec = made, OK;
}

API int cuGraphDestroy(void *graph) {
    std::lock_guard<std::mutex> lock(mutex);
    CHECK(graphs.erase(graph), INVALID_HANDLE);
    return delete (Graph *)graph, lost;
}

API int cuGraphExecDestroy(void *graph) {
    wait_for_all();
    return cuGraphDestroy(graph);
}

API int cuGraphLaunch(void *exec, void *stream) {
    CURRENT();
    std::vector<Work> works;
    {
        std::lock_guard<std::mutex> lock(mutex);
        CHECK(graphs.count(exec), INVALID_HANDLE);
        works = ((Graph *)exec)->works;
        replays++;
    }
    return put(stream, [works] {
        for (const Work &work : works) work();
    });
}

// ---- modules and launches ----

API int cuModuleLoadData(void **module, const void *image) {
    CURRENT();
    Module *made = new Module;
    made->image = (const char *)image;
    if (made->image.find(".target sm_") == std::string::npos) {
        delete made;
        return INVALID_IMAGE;
    }
    std::lock_guard<std::mutex> lock(mutex);
    modules.insert(made);
    return *module = made, OK;
}

API int cuModuleLoadDataEx(void **module, const void *image, unsigned, int *, void **) {
    return cuModuleLoadData(module, image);
}

API int cuModuleUnload(void *module) {
    wait_for_all();
    std::lock_guard<std::mutex> lock(mutex);
    CHECK(modules.erase(module), INVALID_HANDLE);
    return delete (Module *)module, lost;
}

API int cuModuleGetFunction(void **function, void *handle, const char *name) {
    CURRENT();
    std::lock_guard<std::mutex> lock(mutex);
    CHECK(modules.count(handle), INVALID_HANDLE);
    Module *module = (Module *)handle;
    CHECK(module->image.find(std::string(".visible .entry ") + name + "(") != std::string::npos,
          NOT_FOUND);
    Function made{name, {}, nullptr};
    if (made.name == "preprocess") {
        made.arguments = {8, 8, 4, 4};
        made.run = preprocess_on_host;
    } else if (made.name == "count") {
        made.arguments = {8, 8, 8, 4, 4};
        made.run = count_on_host;
    } else {
        return NOT_FOUND;
    }
    Function &held = module->functions[name] = made;
    return *function = &held, OK;
}

API int cuLaunchKernel(void *handle, unsigned x, unsigned y, unsigned z, unsigned threads_x,
                       unsigned threads_y, unsigned threads_z, unsigned, void *stream,
                       void **arguments, void **) {
    CURRENT();
    CHECK(handle && x && y && z && y <= 65535 && z <= 65535, INVALID_VALUE);
    CHECK(threads_x * threads_y * threads_z >= 1 && threads_x * threads_y * threads_z <= 1024,
          INVALID_VALUE);
    Function function = *(Function *)handle;
    std::vector<std::vector<char>> held;
    for (size_t i = 0; i < function.arguments.size(); i++)
        held.emplace_back((char *)arguments[i], (char *)arguments[i] + function.arguments[i]);
    return put(stream, [=]() mutable {
        if (lost) return;
        {
            std::lock_guard<std::mutex> lock(mutex);
            launches++;
            if (fail_launch > 0 && --fail_launch == 0) {
                lost = LAUNCH_FAILED;
                return;
            }
        }
        if (function.name == "preprocess" && !right_pictures(held, z)) {
            fprintf(stderr, "simulated GPU: a picture of a launch leaves its memory\n");
            lost = ILLEGAL_ADDRESS;
            return;
        }
        std::vector<void *> pointers;
        for (auto &argument : held) pointers.push_back(argument.data());
        function.run(x, y, z, pointers.data());
    });
}

API int cuLaunchHostFunc(void *stream, void (*function)(void *), void *data) {
    CURRENT();
    return put(stream, [=] { function(data); });
}

// ---- a network: the density of a cell is the mean of its red samples, 255 being one vehicle ----

API int sim_network(void *stream, uintptr_t input, uintptr_t output, int batch, int width,
                    int height, int columns, int rows) {
    CURRENT();
    return put(stream, [=] {
        if (lost) return;
        size_t values = 3ul * width * height, cells = (size_t)columns * rows;
        if (!on_device(input, batch * values * 4) || !on_device(output, batch * cells * 4)) {
            lost = ILLEGAL_ADDRESS;
            return;
        }
        int across = width / columns, down = height / rows;
        for (int frame = 0; frame < batch; frame++) {
            const float *red = (const float *)input + frame * values;
            float *map = (float *)output + frame * cells;
            for (int row = 0; row < rows; row++)
                for (int column = 0; column < columns; column++) {
                    float sum = 0;
                    for (int y = row * down; y < (row + 1) * down; y++)
                        for (int x = column * across; x < (column + 1) * across; x++)
                            sum += red[y * width + x];
                    map[row * columns + column] = sum / (across * down) / 255;
                }
        }
    });
}

// ---- EGL images ----

API int cuGraphicsEGLRegisterImage(void **resource, void *image, unsigned flags) {
    CURRENT();
    const EglImage *found = (const EglImage *)image;
    CHECK(found && found->magic == EGL_MAGIC && flags == 0, INVALID_VALUE);
    std::lock_guard<std::mutex> lock(mutex);
    if (fail_image > 0 && --fail_image == 0) return INVALID_VALUE;
    allocations[(uintptr_t)found->data] = {(size_t)found->bytes, false, true};
    void *handle = new char;
    resources[handle] = *found;
    return *resource = handle, OK;
}

API int cuGraphicsResourceGetMappedEglFrame(EglFrame *frame, void *resource, unsigned index,
                                            unsigned level) {
    CURRENT();
    std::lock_guard<std::mutex> lock(mutex);
    CHECK(resources.count(resource) && index == 0 && level == 0, INVALID_HANDLE);
    const EglImage &image = resources[resource];
    *frame = {{image.data, nullptr, nullptr},
              image.width,
              image.height,
              1,
              image.pitch,
              1,
              4,
              (int)image.frame_type,
              7,
              1};
    return OK;
}

API int cuGraphicsUnregisterResource(void *resource) {
    if (current.empty()) return INVALID_CONTEXT;
    wait_for_all();
    std::lock_guard<std::mutex> lock(mutex);
    CHECK(resources.count(resource), INVALID_HANDLE);
    allocations.erase((uintptr_t)resources[resource].data);
    resources.erase(resource);
    return delete (char *)resource, lost;
}

// ---- what libgstcuda looks up and a test does not need ----

API int cuGraphicsMapResources() { return NOT_SUPPORTED; }
API int cuGraphicsUnmapResources() { return NOT_SUPPORTED; }
API int cuGraphicsSubResourceGetMappedArray() { return NOT_SUPPORTED; }
API int cuGraphicsResourceGetMappedPointer() { return NOT_SUPPORTED; }
API int cuGraphicsResourceGetMappedPointer_v2() { return NOT_SUPPORTED; }
API int cuGraphicsResourceSetMapFlags() { return NOT_SUPPORTED; }
API int cuGraphicsResourceSetMapFlags_v2() { return NOT_SUPPORTED; }
API int cuGraphicsGLRegisterImage() { return NOT_SUPPORTED; }
API int cuGraphicsGLRegisterBuffer() { return NOT_SUPPORTED; }
API int cuGLGetDevices_v2() { return NOT_SUPPORTED; }
API int cuTexObjectCreate() { return NOT_SUPPORTED; }
API int cuTexObjectDestroy() { return NOT_SUPPORTED; }
