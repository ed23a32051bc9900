/* Stands in for libnvdsgst_meta.so. SPDX-License-Identifier: Apache-2.0 */
#include "standin.h"

GType
nvds_meta_api_get_type (void)
{
  static gsize type;

  if (g_once_init_enter (&type)) {
    static const gchar *tags[] = { "nvdsmeta", NULL };

    g_once_init_leave (&type, gst_meta_api_type_register ("NvDsMetaAPI", tags));
  }
  return type;
}

static gboolean
meta_init (GstMeta *meta, gpointer params, GstBuffer *buffer)
{
  NvDsMeta *nvds = (NvDsMeta *) meta;

  (void) params;
  (void) buffer;
  nvds->meta_data = nvds->user_data = NULL;
  nvds->meta_type = 0;
  nvds->copyfunc = nvds->gst_to_nvds_meta_transform_func = NULL;
  nvds->freefunc = nvds->gst_to_nvds_meta_release_func = NULL;
  return TRUE;
}

static void
meta_free (GstMeta *meta, GstBuffer *buffer)
{
  NvDsMeta *nvds = (NvDsMeta *) meta;

  (void) buffer;
  if (nvds->freefunc != NULL)
    nvds->freefunc (nvds->meta_data, nvds->user_data);
}

static gboolean
meta_transform (GstBuffer *to, GstMeta *meta, GstBuffer *buffer, GQuark type, gpointer data)
{
  NvDsMeta *nvds = (NvDsMeta *) meta, *copy;

  (void) buffer;
  (void) type;
  (void) data;
  copy = gst_buffer_add_nvds_meta (to, nvds->copyfunc (nvds->meta_data, nvds->user_data),
                                   nvds->user_data, nvds->copyfunc, nvds->freefunc);
  copy->meta_type = nvds->meta_type;
  return TRUE;
}

static const GstMetaInfo *
meta_get_info (void)
{
  static gsize info;

  if (g_once_init_enter (&info))
    g_once_init_leave (&info, (gsize) gst_meta_register (nvds_meta_api_get_type (), "NvDsMeta",
                                                         sizeof (NvDsMeta), meta_init, meta_free,
                                                         meta_transform));
  return (const GstMetaInfo *) info;
}

NvDsMeta *
gst_buffer_add_nvds_meta (GstBuffer *buffer, gpointer meta_data, gpointer user_data,
                          NvDsMetaCopyFunc copy, NvDsMetaReleaseFunc release)
{
  NvDsMeta *meta = (NvDsMeta *) gst_buffer_add_meta (buffer, meta_get_info (), NULL);

  meta->meta_data = meta_data;
  meta->user_data = user_data;
  meta->copyfunc = copy;
  meta->freefunc = release;
  return meta;
}

NvDsBatchMeta *
gst_buffer_get_nvds_batch_meta (GstBuffer *buffer)
{
  gpointer state = NULL;
  GstMeta *meta;

  while ((meta = gst_buffer_iterate_meta (buffer, &state)) != NULL)
    if (meta->info->api == nvds_meta_api_get_type ()
        && ((NvDsMeta *) meta)->meta_type == STANDIN_BATCH_GST_META)
      return ((NvDsMeta *) meta)->meta_data;
  return NULL;
}
