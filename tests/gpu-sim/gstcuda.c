// libgstcuda as it is from GStreamer 1.24 on, made of an installed one: the same functions, and the
// stream on which a frame is written, as the test says it. Opened before anything asks for
// libgstcuda, it is the one that is found.

#include <dlfcn.h>
#include <stddef.h>

#define API __attribute__((visibility("default")))

static void *library, *stream;

static void *function(const char *name) { return dlsym(library, name); }

// The installed one, by its path.
API int sim_gstcuda_open(const char *path) { return (library = dlopen(path, RTLD_NOW)) != NULL; }

// From now on, every frame is being written on this CUstream; null: on the default one.
API void sim_gstcuda_write_on(void *handle) { stream = handle; }

API void *gst_cuda_memory_get_stream(void *memory) {
    (void)memory;
    return stream ? &stream : NULL;
}

API void *gst_cuda_stream_get_handle(void *which) { return which ? *(void **)which : NULL; }

API int gst_cuda_load_library(void) { return ((int (*)(void))function("gst_cuda_load_library"))(); }
API void gst_cuda_memory_init_once(void) {
    ((void (*)(void))function("gst_cuda_memory_init_once"))();
}
API int gst_is_cuda_memory(void *memory) {
    return ((int (*)(void *))function("gst_is_cuda_memory"))(memory);
}
API void *gst_cuda_context_new(unsigned device) {
    return ((void *(*)(unsigned))function("gst_cuda_context_new"))(device);
}
API void *gst_cuda_context_new_wrapped(void *handle, int device) {
    return ((void *(*)(void *, int))function("gst_cuda_context_new_wrapped"))(handle, device);
}
API void *gst_cuda_context_get_handle(void *context) {
    return ((void *(*)(void *))function("gst_cuda_context_get_handle"))(context);
}
API void *gst_context_new_cuda_context(void *context) {
    return ((void *(*)(void *))function("gst_context_new_cuda_context"))(context);
}
API void *gst_cuda_buffer_pool_new(void *context) {
    return ((void *(*)(void *))function("gst_cuda_buffer_pool_new"))(context);
}
