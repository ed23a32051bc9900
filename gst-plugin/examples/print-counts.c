/* Prints the counts that pass through a pipeline, from C.
 *
 *   cc print-counts.c -o print-counts -I../include $(pkg-config --cflags --libs gstreamer-1.0)
 *   ./print-counts "vehicletestsrc num-buffers=50 ! vehiclecounter ! fakesink name=out"
 *
 * The counts are read on the sink pad of the element called `out`.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <gst/gst.h>
#include <vehiclecount/vehiclecount-meta.h>

static GstPadProbeReturn
print_counts (GstPad *pad, GstPadProbeInfo *info, gpointer user_data)
{
  const GstStructure *count;
  gpointer state = NULL;
  VehicleCountDensity density;

  (void) pad;
  (void) user_data;
  while ((count = vehicle_count_next (GST_PAD_PROBE_INFO_BUFFER (info), &state)) != NULL) {
    gdouble vehicles, smoothed;
    guint i;

    g_print ("%s frame %" G_GUINT64_FORMAT ": ", vehicle_count_camera (count),
             vehicle_count_sequence (count));
    if (!vehicle_count_vehicles (count, &vehicles) || !vehicle_count_smoothed (count, &smoothed)) {
      g_print ("not counted yet\n");
      continue;
    }
    g_print ("%.2f vehicles (smoothed %.2f), %s", vehicles, smoothed, vehicle_count_level (count));
    if (vehicle_count_stale (count))
      g_print (", %.1f s old", (gdouble) vehicle_count_age (count) / GST_SECOND);
    for (i = 0; i < vehicle_count_n_regions (count); i++) {
      const GstStructure *region = vehicle_count_region (count, i);

      if (region != NULL && vehicle_count_vehicles (region, &vehicles))
        g_print ("; %s %.2f", vehicle_count_region_name (region), vehicles);
    }
    if (vehicle_count_density (count, &density)) {
      gdouble sum = 0.0;

      for (i = 0; i < density.columns * density.rows; i++)
        sum += density.cells[i];
      g_print ("; density %ux%u sums to %.2f", density.columns, density.rows, sum);
    }
    g_print ("\n");
  }
  return GST_PAD_PROBE_OK;
}

int
main (int argc, char **argv)
{
  const gchar *description
      = argc > 1 ? argv[1] : "vehicletestsrc num-buffers=50 ! vehiclecounter ! fakesink name=out";
  GstElement *pipeline, *out;
  GstPad *pad;
  GstMessage *message;
  GError *error = NULL;
  int status = 0;

  gst_init (&argc, &argv);
  pipeline = gst_parse_launch (description, &error);
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
    status = 1;
  }
  gst_message_unref (message);
  gst_element_set_state (pipeline, GST_STATE_NULL);
  gst_object_unref (pipeline);
  return status;
}
