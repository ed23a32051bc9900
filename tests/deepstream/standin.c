/* Makes batches as nvstreammux and nvinfer would, and the element standinsrc, which sends them.
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include <gst/base/gstpushsrc.h>

#include "standin.h"

static void
surface_free (gpointer data)
{
  NvBufSurface *surface = data;
  guint i;

  for (i = 0; i < surface->batchSize; i++)
    g_free ((gpointer) (gsize) surface->surfaceList[i].bufferDesc);
  g_free (surface->surfaceList);
  g_free (surface);
}

/* In a layout that no version has, pictures cannot be found again. */
static void
odd_surface_free (gpointer data)
{
  g_free (((NvBufSurface *) data)->surfaceList);
  g_free (data);
}

/* Colour formats: 1 GRAY8, 2 and 31 I420, 6, 7, 33 and 36 NV12, 19 RGBA, 24 BGRx, 27 RGB. */
static void
picture (NvBufSurfaceParams *params, const StandinBatch *batch, guint red)
{
  NvBufSurfacePlaneParams *planes = &params->planeParams;
  guint bytes = batch->color_format == 19 || batch->color_format == 24 ? 4
                : batch->color_format == 27                            ? 3
                                                                       : 1;
  guint p, x, y, size = 0;
  guint8 *data;

  params->width = batch->width;
  params->height = batch->height;
  params->colorFormat = batch->color_format;
  params->layout = batch->layout;
  switch (batch->color_format) {
  case 6:
  case 7:
  case 33:
  case 36:
    planes->num_planes = 2;
    break;
  case 2:
  case 31:
    planes->num_planes = 3;
    break;
  default:
    planes->num_planes = 1;
  }
  for (p = 0; p < planes->num_planes; p++) {
    planes->width[p] = p ? (batch->width + 1) / 2 : batch->width;
    planes->height[p] = p ? (batch->height + 1) / 2 : batch->height;
    planes->bytesPerPix[p] = p && planes->num_planes == 2 ? 2 : bytes;
    planes->pitch[p] = (planes->width[p] * planes->bytesPerPix[p] + 255) / 256 * 256;
    planes->offset[p] = size;
    planes->psize[p] = planes->pitch[p] * planes->height[p];
    size += planes->psize[p];
  }
  params->pitch = planes->pitch[0];
  params->dataSize = size;
  data = g_malloc (size);
  memset (data, bytes == 1 ? 128 : 0, size);
  for (y = 0; y < batch->height; y++)
    for (x = 0; x < batch->width; x++)
      data[y * params->pitch + x * bytes + (batch->color_format == 24 ? 2 : 0)] = red;
  if (batch->layout == 1)
    for (x = 0; x < size; x++)
      data[x] ^= STANDIN_BLOCKS;
  params->bufferDesc = (gsize) data;
  params->dataPtr = batch->memory_type == 1 || batch->memory_type == 6 ? data : NULL;
}

/* nvinfer's releases, in its way: one object for all frames would be shared; here each has its own.
 * */
static void
tensor_free (gpointer data)
{
  NvDsInferTensorMeta *tensor = data;
  guint i;

  for (i = 0; i < tensor->num_output_layers; i++)
    g_free ((gpointer) tensor->output_layers_info[i].layerName);
  g_free (tensor->priv_data);
  g_free (tensor->output_layers_info);
  g_free (tensor->out_buf_ptrs_host);
  g_free (tensor->out_buf_ptrs_dev);
  g_free (tensor);
}

static void
tensor_release (gpointer data, gpointer user_data)
{
  NvDsUserMeta *user = data;

  (void) user_data;
  tensor_free (user->user_meta_data);
  user->user_meta_data = NULL;
}

static void
add_tensor (NvDsBatchMeta *batch, NvDsFrameMeta *frame, const StandinFrame *spec, guint unique_id)
{
  NvDsUserMeta *user = nvds_acquire_user_meta_from_pool (batch);
  NvDsInferTensorMeta *tensor;
  guint n = spec->layers ? spec->layers : 1, i;

  if (user == NULL)
    return;
  tensor = g_new0 (NvDsInferTensorMeta, 1);
  tensor->unique_id = unique_id;
  tensor->num_output_layers = n;
  tensor->output_layers_info = g_new0 (NvDsInferLayerInfo, n);
  tensor->out_buf_ptrs_host = g_new0 (void *, n);
  tensor->out_buf_ptrs_dev = g_new0 (void *, n);
  tensor->priv_data = g_malloc (MAX (spec->bytes, 1));
  if (spec->bytes)
    memcpy (tensor->priv_data, spec->values, spec->bytes);
  tensor->network_info.width = spec->network_width;
  tensor->network_info.height = spec->network_height;
  tensor->network_info.channels = 3;
  tensor->maintain_aspect_ratio = (gboolean) spec->aspect;
#if STANDIN_MAJOR >= 7
  tensor->symmetric_padding = (gboolean) spec->symmetric;
#endif
  for (i = 0; i < n; i++) {
    NvDsInferLayerInfo *layer = &tensor->output_layers_info[i];
    guint d;

    layer->dataType = spec->data_type;
    layer->bindingIndex = (int) i + 1;
    if (i + 1 < n) {
      layer->layerName = g_strdup ("other");
      layer->inferDims.numDims = layer->inferDims.d[0] = layer->inferDims.numElements = 1;
      continue;
    }
    layer->layerName = g_strdup (spec->layer ? spec->layer : "density");
    layer->inferDims.numDims = spec->num_dims;
    layer->inferDims.numElements = 1;
    for (d = 0; d < spec->num_dims && d < 4; d++) {
      layer->inferDims.d[d] = spec->dims[d];
      layer->inferDims.numElements *= spec->dims[d];
    }
    /* Without a host copy, nvinfer adds the frame's offset to no buffer. */
    tensor->out_buf_ptrs_host[i]
        = spec->place == 0 ? tensor->priv_data
                           : (void *) (gsize) (spec->batch_id * layer->inferDims.numElements * 4);
    tensor->out_buf_ptrs_dev[i] = spec->place == 2 ? NULL
                                  : spec->address  ? (void *) (gsize) spec->address
                                                   : tensor->priv_data;
  }
  user->user_meta_data = tensor;
  user->base_meta.meta_type = STANDIN_TENSOR_META;
  user->base_meta.batch_meta = batch;
  user->base_meta.release_func = tensor_release;
  nvds_add_user_meta_to_frame (frame, user);
}

/* What nvstreammux and nvstreamdemux do with a batch that they have created, for `room` frames. */
static void
hang_on (GstBuffer *buffer, NvDsBatchMeta *batch, guint room)
{
  NvDsMeta *meta = gst_buffer_add_nvds_meta (buffer, batch, NULL, nvds_batch_meta_copy_func,
                                             nvds_batch_meta_release_func);

  meta->meta_type = STANDIN_BATCH_GST_META;
  batch->base_meta.batch_meta = batch;
  batch->base_meta.copy_func = nvds_batch_meta_copy_func;
  batch->base_meta.release_func = nvds_batch_meta_release_func;
  batch->max_frames_in_batch = room;
}

GstBuffer *
standin_buffer_new (const StandinBatch *spec, const StandinFrame *frames, guint n_frames)
{
  NvBufSurface *surface = g_new0 (NvBufSurface, 1);
  guint size = spec->mapped_size ? spec->mapped_size : sizeof (NvBufSurface), i;
  gsize stride = spec->stride ? spec->stride : sizeof (NvBufSurfaceParams);
  NvDsBatchMeta *batch;
  GstBuffer *buffer;

  surface->batchSize = spec->room;
  surface->numFilled = spec->filled ? spec->filled : n_frames;
  surface->memType = spec->memory_type;
  surface->surfaceList = g_malloc0 (MAX (stride, sizeof (NvBufSurfaceParams)) * (spec->room + 1));
  for (i = 0; i < n_frames; i++) {
    NvBufSurfaceParams params = {
      0,
    };

    StandinBatch own = *spec;

    if (frames[i].width)
      own.width = frames[i].width;
    if (frames[i].height)
      own.height = frames[i].height;
    picture (&params, &own, frames[i].red);
    if (frames[i].address)
      params.dataPtr = (void *) (gsize) frames[i].address;
    memcpy ((char *) surface->surfaceList + frames[i].batch_id % spec->room * stride, &params,
            sizeof (params));
  }
  buffer = gst_buffer_new_wrapped_full (GST_MEMORY_FLAG_READONLY, surface, size, 0, size, surface,
                                        stride == sizeof (NvBufSurfaceParams) ? surface_free
                                                                              : odd_surface_free);
  if (!spec->batch_meta)
    return buffer;
  batch = nvds_create_batch_meta (MAX (spec->room, n_frames));
  hang_on (buffer, batch, MAX (spec->room, n_frames));
  nvds_acquire_meta_lock (batch);
  for (i = 0; i < n_frames; i++) {
    NvDsFrameMeta *frame = nvds_acquire_frame_meta_from_pool (batch);
    guint t;

    frame->batch_id = frames[i].batch_id;
    frame->pad_index = frame->source_id = frames[i].source_id;
    frame->buf_pts = frames[i].pts;
    frame->ntp_timestamp = frames[i].ntp;
    frame->source_frame_width = frame->pipeline_width
        = spec->told_width ? spec->told_width : spec->width;
    frame->source_frame_height = frame->pipeline_height
        = spec->told_height ? spec->told_height : spec->height;
    for (t = frames[i].tensors; t > 0; t--)
      add_tensor (batch, frame, &frames[i], frames[i].unique_id + t - 1);
    nvds_add_frame_meta_to_batch (batch, frame);
  }
  nvds_release_meta_lock (batch);
  return buffer;
}

GstBuffer *
standin_demux (GstBuffer *buffer, guint index, gboolean keep_batch_id)
{
  NvDsBatchMeta *from = gst_buffer_get_nvds_batch_meta (buffer), *to = nvds_create_batch_meta (1);
  NvDsFrameMeta *source = g_list_nth_data (from->frame_meta_list, index),
                *frame = nvds_acquire_frame_meta_from_pool (to);
  NvBufSurface *surface = g_new0 (NvBufSurface, 1), *all;
  GstBuffer *demuxed;
  GstMapInfo map;
  gpointer data;

  gst_buffer_map (buffer, &map, GST_MAP_READ);
  all = (NvBufSurface *) map.data;
  *surface = *all;
  surface->batchSize = surface->numFilled = 1;
  surface->surfaceList
      = g_memdup2 (&all->surfaceList[source->batch_id], sizeof (NvBufSurfaceParams));
  data = g_memdup2 ((gpointer) (gsize) surface->surfaceList->bufferDesc,
                    surface->surfaceList->dataSize);
  surface->surfaceList->bufferDesc = (gsize) data;
  if (surface->surfaceList->dataPtr != NULL)
    surface->surfaceList->dataPtr = data;
  gst_buffer_unmap (buffer, &map);
  demuxed = gst_buffer_new_wrapped_full (GST_MEMORY_FLAG_READONLY, surface, sizeof (*surface), 0,
                                         sizeof (*surface), surface, surface_free);
  /* Some leave the room 0. */
  hang_on (demuxed, to, 0);
  nvds_copy_frame_meta (source, frame);
  if (!keep_batch_id)
    frame->batch_id = 0;
  nvds_add_frame_meta_to_batch (to, frame);
  return demuxed;
}

/* ---- standinsrc ---- */

typedef struct {
  GstPushSrc parent;
  guint sources, interval, memory_type, layout;
  guint64 sent;
} StandinSrc;

typedef struct {
  GstPushSrcClass parent_class;
} StandinSrcClass;

GType standin_src_get_type (void);
G_DEFINE_TYPE (StandinSrc, standin_src, GST_TYPE_PUSH_SRC)

enum { PROP_0, PROP_SOURCES, PROP_INTERVAL, PROP_MEMORY_TYPE, PROP_LAYOUT };

/* Source s has s + 1 vehicles in the grid's first cell, and half a one in its last. */
static GstFlowReturn
standin_src_create (GstPushSrc *push, GstBuffer **buffer)
{
  StandinSrc *src = (StandinSrc *) push;
  StandinBatch batch = { .room = src->sources,
                         .width = 64,
                         .height = 32,
                         .color_format = 19,
                         .memory_type = (gint32) src->memory_type,
                         .layout = (gint32) src->layout,
                         .batch_meta = 1 };
  StandinFrame *frames = g_new0 (StandinFrame, src->sources);
  float (*cells)[8] = g_malloc0 (src->sources * sizeof (float[8]));
  guint i;

  for (i = 0; i < src->sources; i++) {
    cells[i][0] = i + 1;
    cells[i][7] = 0.5;
    frames[i] = (StandinFrame){ .source_id = i,
                                .batch_id = i,
                                .pts = src->sent * GST_SECOND / 10,
                                .ntp = 1000 + src->sent,
                                .tensors = src->sent % (src->interval + 1) == 0,
                                .unique_id = 1,
                                .num_dims = 3,
                                .dims = { 1, 2, 4 },
                                .network_width = 64,
                                .network_height = 32,
                                .layers = 1,
                                .red = 32 * (i + 1),
                                .values = cells[i],
                                .bytes = sizeof (cells[i]) };
  }
  *buffer = standin_buffer_new (&batch, frames, src->sources);
  GST_BUFFER_PTS (*buffer) = src->sent * GST_SECOND / 10;
  src->sent++;
  g_free (frames);
  g_free (cells);
  return GST_FLOW_OK;
}

static void
standin_src_set_property (GObject *object, guint id, const GValue *value, GParamSpec *spec)
{
  StandinSrc *src = (StandinSrc *) object;

  (void) spec;
  switch (id) {
  case PROP_SOURCES:
    src->sources = g_value_get_uint (value);
    break;
  case PROP_INTERVAL:
    src->interval = g_value_get_uint (value);
    break;
  case PROP_MEMORY_TYPE:
    src->memory_type = g_value_get_uint (value);
    break;
  default:
    src->layout = g_value_get_uint (value);
  }
}

static void
standin_src_class_init (StandinSrcClass *klass)
{
  GstElementClass *element = GST_ELEMENT_CLASS (klass);
  GstCaps *caps = gst_caps_from_string (
      "video/x-raw(memory:NVMM), format=RGBA, width=64, height=32, framerate=10/1");

  G_OBJECT_CLASS (klass)->set_property = standin_src_set_property;
  g_object_class_install_property (
      G_OBJECT_CLASS (klass), PROP_SOURCES,
      g_param_spec_uint ("sources", "Sources", "Sources in a batch", 1, 64, 2, G_PARAM_WRITABLE));
  g_object_class_install_property (G_OBJECT_CLASS (klass), PROP_INTERVAL,
                                   g_param_spec_uint ("interval", "Interval",
                                                      "Batches without tensors between two with", 0,
                                                      64, 0, G_PARAM_WRITABLE));
  g_object_class_install_property (G_OBJECT_CLASS (klass), PROP_MEMORY_TYPE,
                                   g_param_spec_uint ("memory-type", "Memory type",
                                                      "NvBufSurfaceMemType", 0, 6, 6,
                                                      G_PARAM_WRITABLE));
  g_object_class_install_property (G_OBJECT_CLASS (klass), PROP_LAYOUT,
                                   g_param_spec_uint ("layout", "Layout",
                                                      "0 pitch-linear, 1 block-linear", 0, 1, 0,
                                                      G_PARAM_WRITABLE));
  gst_element_class_set_static_metadata (element, "Batches without DeepStream", "Source/Video",
                                         "Sends made-up batches", "The vehiclecount authors");
  gst_element_class_add_pad_template (
      element, gst_pad_template_new ("src", GST_PAD_SRC, GST_PAD_ALWAYS, caps));
  gst_caps_unref (caps);
  GST_PUSH_SRC_CLASS (klass)->create = standin_src_create;
}

static void
standin_src_init (StandinSrc *src)
{
  src->sources = 2;
  src->memory_type = 6;
  gst_base_src_set_format (GST_BASE_SRC (src), GST_FORMAT_TIME);
}

static gboolean
plugin_init (GstPlugin *plugin)
{
  return gst_element_register (plugin, "standinsrc", GST_RANK_NONE, standin_src_get_type ());
}

#define PACKAGE "standin"
GST_PLUGIN_DEFINE (GST_VERSION_MAJOR, GST_VERSION_MINOR, standin, "Batches without DeepStream",
                   plugin_init, "1", "Apache 2.0", "standin",
                   "https://github.com/vehiclecount/vehiclecount")
