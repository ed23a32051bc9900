/* Prints the counts that pass through a DeepStream pipeline, from C.
 *
 *   DS=/opt/nvidia/deepstream/deepstream
 *   cc deepstream-print-counts.c -o deepstream-print-counts -I../include \
 *     -I$DS/sources/includes -L$DS/lib -Wl,-rpath,$DS/lib -lnvdsgst_meta -lnvds_meta \
 *     $(pkg-config --cflags --libs gstreamer-1.0)
 *   ./deepstream-print-counts "nvurisrcbin uri=file:///clip.mp4 ! m.sink_0 \
 *     nvstreammux name=m batch-size=1 width=1920 height=1080 \
 *     ! nvinfer config-file-path=config_infer_vehiclecount.txt ! vehiclecounternvmm \
 *     ! fakesink name=out"
 *
 * The counts are read on the sink pad of the element called `out`.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <gst/gst.h>

#include <gstnvdsmeta.h>
#include <vehiclecount/vehiclecount-nvds.h>

static void
print_count (const VehicleCountNvds *count)
{
  guint i;

  g_print ("%s frame %" G_GUINT64_FORMAT ": ", count->camera, count->sequence);
  if (!(count->flags & VEHICLE_COUNT_NVDS_COUNTED)) {
    g_print ("not counted yet\n");
    return;
  }
  g_print ("%.2f vehicles (smoothed %.2f), %s", count->count, count->smoothed,
           vehicle_count_nvds_level_name (count->level));
  if (count->flags & VEHICLE_COUNT_NVDS_STALE)
    g_print (", %.1f s old", (gdouble) count->age / GST_SECOND);
  for (i = 0; i < count->n_regions; i++)
    if (count->regions[i].flags & VEHICLE_COUNT_NVDS_COUNTED)
      g_print ("; %s %.2f", count->regions[i].name, count->regions[i].count);
  if (count->cells != NULL) {
    gdouble sum = 0.0;

    for (i = 0; i < count->columns * count->rows; i++)
      sum += count->cells[i];
    g_print ("; density %ux%u sums to %.2f", count->columns, count->rows, sum);
  }
  g_print ("\n");
}

static GstPadProbeReturn
print_counts (GstPad *pad, GstPadProbeInfo *info, gpointer user_data)
{
  NvDsBatchMeta *batch = gst_buffer_get_nvds_batch_meta (GST_PAD_PROBE_INFO_BUFFER (info));
  NvDsMetaList *l;

  (void) pad;
  (void) user_data;
  if (batch == NULL)
    return GST_PAD_PROBE_OK;
  nvds_acquire_meta_lock (batch);
  for (l = batch->frame_meta_list; l != NULL; l = l->next) {
    const GList *state = NULL;
    const VehicleCountNvds *count;

    while ((count = vehicle_count_nvds_next ((NvDsFrameMeta *) l->data, &state)) != NULL)
      print_count (count);
  }
  nvds_release_meta_lock (batch);
  return GST_PAD_PROBE_OK;
}

int
main (int argc, char **argv)
{
  GstElement *pipeline, *out;
  GstPad *pad;
  GstMessage *message;
  GError *error = NULL;
  int status = 0;

  gst_init (&argc, &argv);
  if (argc != 2) {
    g_printerr (
        "usage: %s PIPELINE, one element of which is called `out`, as in: fakesink name=out\n",
        argv[0]);
    return 2;
  }
  pipeline = gst_parse_launch (argv[1], &error);
  if (error != NULL) {
    g_printerr ("%s\n", error->message);
    return 1;
  }
  out = gst_bin_get_by_name (GST_BIN (pipeline), "out");
  if (out == NULL) {
    g_printerr ("call one element of the pipeline `out`, as in: fakesink name=out\n");
    return 1;
  }
  pad = gst_element_get_static_pad (out, "sink");
  gst_pad_add_probe (pad, GST_PAD_PROBE_TYPE_BUFFER, print_counts, NULL, NULL);
  gst_object_unref (pad);
  gst_object_unref (out);

  gst_element_set_state (pipeline, GST_STATE_PLAYING);
  message = gst_bus_timed_pop_filtered (GST_ELEMENT_BUS (pipeline), GST_CLOCK_TIME_NONE,
                                        (GstMessageType) (GST_MESSAGE_ERROR | GST_MESSAGE_EOS));
  if (GST_MESSAGE_TYPE (message) == GST_MESSAGE_ERROR) {
    gst_message_parse_error (message, &error, NULL);
    g_printerr ("%s\n", error->message);
    g_error_free (error);
    status = 1;
  }
  gst_message_unref (message);
  gst_element_set_state (pipeline, GST_STATE_NULL);
  gst_object_unref (pipeline);
  return status;
}
