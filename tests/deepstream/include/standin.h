/* DeepStream's structures for the tests, declared from facts about their layout: a second witness
 * beside the Rust declarations.
 *
 * STANDIN_MAJOR and STANDIN_MINOR choose the version that is stood in for: 8.0 made surfaces
 * larger, 9.0 display metadata. Applications' examples compile against these headers too.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef STANDIN_H
#define STANDIN_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <gst/gst.h>

#ifndef STANDIN_MAJOR
#define STANDIN_MAJOR 7
#define STANDIN_MINOR 1
#endif

G_BEGIN_DECLS

typedef GList NvDsMetaList;
typedef gint NvDsMetaType;
typedef gpointer (*NvDsMetaCopyFunc) (gpointer data, gpointer user_data);
typedef void (*NvDsMetaReleaseFunc) (gpointer data, gpointer user_data);

enum {
  STANDIN_FRAME_META = 2,
  STANDIN_DISPLAY_META = 4,
  STANDIN_USER_META = 7,
  STANDIN_TENSOR_META = 12,
  STANDIN_BATCH_GST_META = 4097
};

typedef struct {
  NvDsMetaType meta_type;
  guint max_elements_in_pool, element_size, num_empty_elements, num_full_elements;
  GList *empty_list, *full_list;
  NvDsMetaCopyFunc copy_func;
  NvDsMetaReleaseFunc release_func;
} NvDsMetaPool;

struct _NvDsBatchMeta;

typedef struct {
  struct _NvDsBatchMeta *batch_meta;
  NvDsMetaType meta_type;
  void *uContext;
  NvDsMetaCopyFunc copy_func;
  NvDsMetaReleaseFunc release_func;
} NvDsBaseMeta;

typedef struct _NvDsBatchMeta {
  NvDsBaseMeta base_meta;
  guint max_frames_in_batch, num_frames_in_batch;
  NvDsMetaPool *frame_meta_pool, *obj_meta_pool, *classifier_meta_pool, *display_meta_pool,
      *user_meta_pool, *label_info_meta_pool;
  NvDsMetaList *frame_meta_list, *batch_user_meta_list;
  GRecMutex meta_mutex;
  gint64 misc_batch_info[4], reserved[4];
} NvDsBatchMeta;

typedef struct {
  NvDsBaseMeta base_meta;
  guint pad_index, batch_id;
  gint frame_num;
  guint64 buf_pts, ntp_timestamp;
  guint source_id;
  gint num_surfaces_per_frame;
  guint source_frame_width, source_frame_height, surface_type, surface_index, num_obj_meta;
  gboolean bInferDone;
  NvDsMetaList *obj_meta_list, *display_meta_list, *frame_user_meta_list;
  gint64 misc_frame_info[4];
  guint pipeline_width, pipeline_height;
#if STANDIN_MAJOR >= 8
  struct {
    guint source_id;
    const gchar *uri, *sensor_id, *sensor_name;
  } sensorInfo_meta;
#endif
  gint64 reserved[4];
} NvDsFrameMeta;

typedef struct {
  NvDsBaseMeta base_meta;
  void *user_meta_data;
} NvDsUserMeta;

typedef struct {
  double red, green, blue, alpha;
} NvOSD_ColorParams;
typedef struct {
  float left, top, width, height;
  unsigned border_width;
  NvOSD_ColorParams border_color;
  unsigned has_bg_color, reserved;
  NvOSD_ColorParams bg_color;
  int has_color_info, color_id;
#if STANDIN_MAJOR >= 9
  float rotation_angle;
#endif
} NvOSD_RectParams;
typedef struct {
  char *font_name;
  unsigned font_size;
  NvOSD_ColorParams font_color;
} NvOSD_FontParams;
typedef struct {
  char *display_text;
  unsigned x_offset, y_offset;
  NvOSD_FontParams font_params;
  int set_bg_clr;
  NvOSD_ColorParams text_bg_clr;
} NvOSD_TextParams;
typedef struct {
  unsigned x1, y1, x2, y2, line_width;
  NvOSD_ColorParams line_color;
} NvOSD_LineParams;
typedef struct {
  unsigned x1, y1, x2, y2, arrow_width;
  int arrow_head;
  NvOSD_ColorParams arrow_color;
  unsigned reserved;
} NvOSD_ArrowParams;
typedef struct {
  unsigned xc, yc, radius;
  NvOSD_ColorParams circle_color;
  unsigned has_bg_color;
  NvOSD_ColorParams bg_color;
  unsigned circle_width, reserved;
} NvOSD_CircleParams;

typedef struct {
  NvDsBaseMeta base_meta;
  guint num_rects, num_labels, num_lines, num_arrows, num_circles;
  NvOSD_RectParams rect_params[16];
  NvOSD_TextParams text_params[16];
  NvOSD_LineParams line_params[16];
  NvOSD_ArrowParams arrow_params[16];
  NvOSD_CircleParams circle_params[16];
  gint64 misc_osd_data[4], reserved[4];
} NvDsDisplayMeta;

typedef struct {
  GstMeta meta;
  gpointer meta_data, user_data;
  gint meta_type;
  NvDsMetaCopyFunc copyfunc;
  NvDsMetaReleaseFunc freefunc;
  NvDsMetaCopyFunc gst_to_nvds_meta_transform_func;
  NvDsMetaReleaseFunc gst_to_nvds_meta_release_func;
} NvDsMeta;

typedef struct {
  unsigned numDims, d[8], numElements;
} NvDsInferDims;
typedef struct {
  int dataType;
  NvDsInferDims inferDims;
  int bindingIndex;
  const char *layerName;
  void *buffer;
  int isInput;
} NvDsInferLayerInfo;
typedef struct {
  guint unique_id, num_output_layers;
  NvDsInferLayerInfo *output_layers_info;
  void **out_buf_ptrs_host, **out_buf_ptrs_dev;
  gint gpu_id;
  void *priv_data;
  struct {
    unsigned width, height, channels;
  } network_info;
  gboolean maintain_aspect_ratio;
#if STANDIN_MAJOR >= 7
  gboolean symmetric_padding;
#endif
} NvDsInferTensorMeta;

typedef struct {
  uint32_t num_planes, width[4], height[4], pitch[4], offset[4], psize[4], bytesPerPix[4];
  void *_reserved[16];
} NvBufSurfacePlaneParams;
typedef struct {
  uint32_t width, height, pitch;
  int colorFormat, layout;
  uint64_t bufferDesc;
  uint32_t dataSize;
  void *dataPtr;
  NvBufSurfacePlaneParams planeParams;
  void *mapped[4];
  void *eglImage;
#if STANDIN_MAJOR >= 8
  void *nvmmPtr, *cudaPtr, *mapped_reserved[4], *paramex, *cudaBuffer, *_reserved[4];
#else
  void *mapped_reserved[4], *paramex, *_reserved[3];
#endif
} NvBufSurfaceParams;
typedef struct {
  uint32_t gpuId, batchSize, numFilled;
  bool isContiguous;
  int memType;
  NvBufSurfaceParams *surfaceList;
#if STANDIN_MAJOR >= 8
  bool isImportedBuf;
#endif
  void *_reserved[4];
} NvBufSurface;

typedef struct {
  uint32_t gpuId, width, height, size;
  bool isContiguous;
  int colorFormat, layout, memType;
#if STANDIN_MAJOR >= 8
  void *_reserved[4];
#endif
} NvBufSurfaceCreateParams;
typedef struct {
  int compute_mode;
  int32_t gpu_id;
  void *cuda_stream;
#if STANDIN_MAJOR >= 8
  void *reserved[4];
#endif
} NvBufSurfTransformConfigParams;
typedef struct {
  uint32_t transform_flag;
  int transform_flip, transform_filter;
  void *src_rect, *dst_rect;
#if STANDIN_MAJOR >= 8
  void *reserved[4];
#endif
} NvBufSurfTransformParams;

/* What an EGL image is here: the stand-in for CUDA's driver (tests/gpu-sim) reads it. */
typedef struct {
  uint64_t magic; /* STANDIN_EGL */
  void *data;
  uint64_t bytes;
  uint32_t width, height, pitch, frame_type;
} StandinEglImage;
#define STANDIN_EGL 0x45474c696d616765ull

typedef struct {
  void *message;
  guint size;
} NvDsCustomMsgInfo;

static_assert (sizeof (NvDsMetaPool) == 56 && offsetof (NvDsMetaPool, element_size) == 8, "pool");
static_assert (sizeof (NvDsBaseMeta) == 40 && sizeof (NvDsBatchMeta) == 192
                   && sizeof (NvDsUserMeta) == 48,
               "metadata");
static_assert (offsetof (NvDsBatchMeta, frame_meta_list) == 96
                   && offsetof (NvDsBatchMeta, meta_mutex) == 112,
               "batch");
static_assert (sizeof (NvDsFrameMeta) == (STANDIN_MAJOR >= 8 ? 232 : 200)
                   && offsetof (NvDsFrameMeta, pipeline_height) == 164,
               "frame");
static_assert (sizeof (NvDsDisplayMeta) == (STANDIN_MAJOR >= 9 ? 7040 : 6912), "display");
static_assert (sizeof (NvDsMeta) == 72 && sizeof (NvDsInferLayerInfo) == 72, "gst meta, layer");
static_assert (sizeof (NvDsInferTensorMeta) == (STANDIN_MAJOR >= 7 ? 72 : 64)
                   && offsetof (NvDsInferTensorMeta, maintain_aspect_ratio) == 60,
               "tensor");
static_assert (sizeof (NvBufSurface) == (STANDIN_MAJOR >= 8 ? 72 : 64)
                   && offsetof (NvBufSurface, surfaceList) == 24,
               "surface");
static_assert (sizeof (NvBufSurfaceParams) == (STANDIN_MAJOR >= 8 ? 416 : 384)
                   && offsetof (NvBufSurfaceParams, mapped) == 280,
               "surfaces");
static_assert (offsetof (NvBufSurfaceParams, eglImage) == 312
                   && offsetof (NvBufSurfaceParams, paramex) == (STANDIN_MAJOR >= 8 ? 368 : 352),
               "mapping");
static_assert (sizeof (NvBufSurfaceCreateParams) == (STANDIN_MAJOR >= 8 ? 64 : 32)
                   && offsetof (NvBufSurfaceCreateParams, memType) == 28,
               "create");
static_assert (sizeof (NvBufSurfTransformConfigParams) == (STANDIN_MAJOR >= 8 ? 48 : 16),
               "session");
static_assert (sizeof (NvBufSurfTransformParams) == (STANDIN_MAJOR >= 8 ? 64 : 32)
                   && offsetof (NvBufSurfTransformParams, src_rect) == 16,
               "transform");

/* libnvds_meta.so */
NvDsBatchMeta *nvds_create_batch_meta (guint max_batch_size);
gboolean nvds_destroy_batch_meta (NvDsBatchMeta *batch);
void nvds_acquire_meta_lock (NvDsBatchMeta *batch);
void nvds_release_meta_lock (NvDsBatchMeta *batch);
NvDsFrameMeta *nvds_acquire_frame_meta_from_pool (NvDsBatchMeta *batch);
void nvds_add_frame_meta_to_batch (NvDsBatchMeta *batch, NvDsFrameMeta *frame);
NvDsUserMeta *nvds_acquire_user_meta_from_pool (NvDsBatchMeta *batch);
void nvds_add_user_meta_to_frame (NvDsFrameMeta *frame, NvDsUserMeta *user);
NvDsDisplayMeta *nvds_acquire_display_meta_from_pool (NvDsBatchMeta *batch);
void nvds_add_display_meta_to_frame (NvDsFrameMeta *frame, NvDsDisplayMeta *display);
void nvds_copy_frame_meta (NvDsFrameMeta *from, NvDsFrameMeta *to);
gpointer nvds_batch_meta_copy_func (gpointer data, gpointer user_data);
void nvds_batch_meta_release_func (gpointer data, gpointer user_data);
NvDsMetaType nvds_get_user_meta_type (gchar *descriptor);

/* libnvdsgst_meta.so */
GType nvds_meta_api_get_type (void);
NvDsMeta *gst_buffer_add_nvds_meta (GstBuffer *buffer, gpointer meta_data, gpointer user_data,
                                    NvDsMetaCopyFunc copy_func, NvDsMetaReleaseFunc release_func);
NvDsBatchMeta *gst_buffer_get_nvds_batch_meta (GstBuffer *buffer);

/* libnvds_utils.so */
void nvds_version (unsigned *major, unsigned *minor);

/* libnvbufsurface.so */
int NvBufSurfaceMap (NvBufSurface *surface, int index, int plane, int type);
int NvBufSurfaceUnMap (NvBufSurface *surface, int index, int plane);
int NvBufSurfaceSyncForCpu (NvBufSurface *surface, int index, int plane);
int NvBufSurfaceCreate (NvBufSurface **surface, uint32_t batch, NvBufSurfaceCreateParams *params);
int NvBufSurfaceDestroy (NvBufSurface *surface);
int NvBufSurfaceMapEglImage (NvBufSurface *surface, int index);
int NvBufSurfaceUnMapEglImage (NvBufSurface *surface, int index);
int NvBufSurfaceGetDeviceInfo (int *info);

/* libnvbufsurftransform.so */
int NvBufSurfTransformSetSessionParams (NvBufSurfTransformConfigParams *params);
int NvBufSurfTransform (NvBufSurface *from, NvBufSurface *to, NvBufSurfTransformParams *params);

/* The stand-in's own. */

/* Sizes of the pools of batches that are made from now on; 0: the usual. Then what tests see. */
void standin_set_pools (guint user, guint display);
/* Calls that needed the lock and were made without it. */
gint standin_unlocked_calls (void);
/* Batches that live, and surfaces that are mapped. */
gint standin_live_batches (void);
gint standin_mapped (void);
/* Surfaces made by NvBufSurfaceCreate that live; EGL images that are mapped; transforms done; calls
 * of transforms with no session set. */
gint standin_live_surfaces (void);
gint standin_egl_images (void);
gint standin_transforms (void);
gint standin_sessionless (void);
/* From now on: surfaces that can still be made (-1: any), EGL images that can, and the frame type
 * of the images (1: pitch). */
void standin_limit_surfaces (gint surfaces, gint images, gint frame_type);
/* 1: NvBufSurfaceGetDeviceInfo tells of Jetson's driver, 2: of that of discrete GPUs, where
 * surfaces are GPU memory. */
void standin_set_driver (gint driver);
/* Transforms that still succeed (-1: all); and the result of those that fail. */
void standin_limit_transforms (gint transforms, gint code);
/* Block-linear pictures are kept so that reading them row by row shows. */
#define STANDIN_BLOCKS 0x5a

/* What a frame of a made-up batch has. */
typedef struct {
  guint32 source_id, batch_id;
  guint64 pts, ntp;
  guint32 tensors; /* metas of nvinfer: 0, 1, or 2 (the first with unique_id + 1) */
  guint32 unique_id;
  gint32 data_type; /* 0 float, 1 half, others as they are */
  guint32 place;    /* 0 host, 1 GPU only, 2 nowhere */
  guint32 num_dims, dims[4];
  guint32 aspect, symmetric, network_width, network_height;
  guint32 layers;     /* 1, or 2: an output called "other" comes first */
  guint32 red;        /* level of red, or of luma, in the whole picture */
  const char *layer;  /* name of the density, NULL: "density" */
  const void *values; /* copied */
  guint64 bytes;
  guint64 address;       /* of the picture, and of the tensor, on a GPU; 0: none */
  guint32 width, height; /* of the picture; 0: the batch's */
} StandinFrame;

typedef struct {
  guint32 room, filled; /* of the surface; filled 0: the number of frames */
  guint32 width, height;
  gint32 color_format, memory_type, layout;
  guint32 mapped_size, stride;     /* 0: what the version has */
  guint32 batch_meta;              /* 0: no batch metadata at all */
  guint32 told_width, told_height; /* what metadata says of the size; 0: the truth */
} StandinBatch;

GstBuffer *standin_buffer_new (const StandinBatch *batch, const StandinFrame *frames,
                               guint n_frames);
/* What nvstreamdemux makes of frame `index`; `keep_batch_id` as before 9.0. */
GstBuffer *standin_demux (GstBuffer *buffer, guint index, gboolean keep_batch_id);

G_END_DECLS

#endif
