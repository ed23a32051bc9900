/* Reads VehicleCountMeta, the vehicle count on a GstBuffer.
 *
 * The metadata is a GstCustomMeta (GStreamer 1.20): a plain GstStructure. Everything here is an
 * inline function over public GStreamer calls; there is no library to link. docs/metadata.md lists
 * the fields with their units.
 *
 * Strings, structures and cells belong to the buffer: they are valid as long as it is.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef VEHICLECOUNT_META_H
#define VEHICLECOUNT_META_H

#include <gst/gst.h>

G_BEGIN_DECLS

#define VEHICLE_COUNT_META_NAME "VehicleCountMeta"

/* Where a density map lies and what is in it. */
typedef struct {
  const gfloat *cells; /* vehicles per cell, row by row from the top left: columns * rows of them */
  guint columns;
  guint rows;
  gdouble x; /* the grid in the frame, which spans 0..1 both ways; larger than the frame with a
                letterboxed input */
  gdouble y;
  gdouble width;
  gdouble height;
} VehicleCountDensity;

/* The next count on the buffer, NULL after the last. Begin with *state = NULL. A buffer carries one
 * for each counter it passed. */
static inline const GstStructure *
vehicle_count_next (GstBuffer *buffer, gpointer *state)
{
  GstMeta *meta;

  while ((meta = gst_buffer_iterate_meta (buffer, state)) != NULL) {
    if (gst_meta_info_is_custom (meta->info)
        && gst_custom_meta_has_name ((GstCustomMeta *) meta, VEHICLE_COUNT_META_NAME))
      return gst_custom_meta_get_structure ((GstCustomMeta *) meta);
  }
  return NULL;
}

/* The first count on the buffer, or NULL where there is none. */
static inline const GstStructure *
vehicle_count_get (GstBuffer *buffer)
{
  gpointer state = NULL;

  return vehicle_count_next (buffer, &state);
}

static inline guint64
vehicle_count_uint64_or (const GstStructure *structure, const gchar *field, guint64 otherwise)
{
  guint64 value = otherwise;

  gst_structure_get_uint64 (structure, field, &value);
  return value;
}

/* The camera's id. */
static inline const gchar *
vehicle_count_camera (const GstStructure *count)
{
  return gst_structure_get_string (count, "camera");
}

/* Number of the frame in its camera's stream, from 0. */
static inline guint64
vehicle_count_sequence (const GstStructure *count)
{
  return vehicle_count_uint64_or (count, "sequence", 0);
}

/* The counter's unique-id. */
static inline guint
vehicle_count_unique_id (const GstStructure *count)
{
  guint id = 0;

  gst_structure_get_uint (count, "unique-id", &id);
  return id;
}

/* Presentation time of the frame, or GST_CLOCK_TIME_NONE. */
static inline GstClockTime
vehicle_count_pts (const GstStructure *count)
{
  return vehicle_count_uint64_or (count, "pts", GST_CLOCK_TIME_NONE);
}

/* When the camera took the picture by its own clock, nanoseconds since 1970 (UTC), or
 * GST_CLOCK_TIME_NONE where it is not known. */
static inline GstClockTime
vehicle_count_capture_time (const GstStructure *count)
{
  return vehicle_count_uint64_or (count, "capture-time", GST_CLOCK_TIME_NONE);
}

/* When the frame reached the counter by the clock of its machine, nanoseconds since 1970 (UTC). */
static inline GstClockTime
vehicle_count_received_time (const GstStructure *count)
{
  return vehicle_count_uint64_or (count, "received-time", GST_CLOCK_TIME_NONE);
}

/* Vehicles in the frame, or in a region. FALSE before the first count; then *vehicles is left as it
 * is. */
static inline gboolean
vehicle_count_vehicles (const GstStructure *count_or_region, gdouble *vehicles)
{
  return gst_structure_get_double (count_or_region, "count", vehicles);
}

/* The same, smoothed over time. */
static inline gboolean
vehicle_count_smoothed (const GstStructure *count_or_region, gdouble *vehicles)
{
  return gst_structure_get_double (count_or_region, "count-smoothed", vehicles);
}

/* "free", "moderate", "dense" or "jammed"; NULL before the first count. */
static inline const gchar *
vehicle_count_level (const GstStructure *count_or_region)
{
  return gst_structure_get_string (count_or_region, "level");
}

/* Whether the count should have been this frame's own and is an older one. */
static inline gboolean
vehicle_count_stale (const GstStructure *count)
{
  gboolean stale = FALSE;

  gst_structure_get_boolean (count, "stale", &stale);
  return stale;
}

/* Whether the frame does not differ from the counted picture and keeps its count. */
static inline gboolean
vehicle_count_confirmed (const GstStructure *count)
{
  gboolean confirmed = FALSE;

  gst_structure_get_boolean (count, "confirmed", &confirmed);
  return confirmed;
}

/* How much older than the frame the counted picture is. */
static inline GstClockTime
vehicle_count_age (const GstStructure *count)
{
  return vehicle_count_uint64_or (count, "age", 0);
}

/* Names of the model and of the engine that ran it. */
static inline const gchar *
vehicle_count_model (const GstStructure *count)
{
  return gst_structure_get_string (count, "model");
}

static inline const gchar *
vehicle_count_engine (const GstStructure *count)
{
  return gst_structure_get_string (count, "engine");
}

/* How long the engine worked on the batch that the frame was in. */
static inline GstClockTime
vehicle_count_inference_time (const GstStructure *count)
{
  return vehicle_count_uint64_or (count, "inference-time", 0);
}

/* Number of regions. */
static inline guint
vehicle_count_n_regions (const GstStructure *count)
{
  const GValue *regions = gst_structure_get_value (count, "regions");

  return regions != NULL && GST_VALUE_HOLDS_ARRAY (regions) ? gst_value_array_get_size (regions)
                                                            : 0;
}

/* Region `index`, in the configuration's order, for vehicle_count_vehicles, _smoothed, _level and
 * the functions below; NULL past the last. */
static inline const GstStructure *
vehicle_count_region (const GstStructure *count, guint index)
{
  const GValue *region;

  if (index >= vehicle_count_n_regions (count))
    return NULL;
  region = gst_value_array_get_value (gst_structure_get_value (count, "regions"), index);
  return GST_VALUE_HOLDS_STRUCTURE (region) ? gst_value_get_structure (region) : NULL;
}

/* The region's name. */
static inline const gchar *
vehicle_count_region_name (const GstStructure *region)
{
  return gst_structure_get_string (region, "name");
}

/* Number of the region's corners. */
static inline guint
vehicle_count_region_n_corners (const GstStructure *region)
{
  const GValue *polygon = gst_structure_get_value (region, "polygon");

  return polygon != NULL && GST_VALUE_HOLDS_ARRAY (polygon) ? gst_value_array_get_size (polygon) / 2
                                                            : 0;
}

/* Corner `index` of the region in the frame, which spans 0..1 both ways. FALSE past the last. */
static inline gboolean
vehicle_count_region_corner (const GstStructure *region, guint index, gdouble *x, gdouble *y)
{
  const GValue *polygon = gst_structure_get_value (region, "polygon");

  if (index >= vehicle_count_region_n_corners (region))
    return FALSE;
  *x = g_value_get_double (gst_value_array_get_value (polygon, 2 * index));
  *y = g_value_get_double (gst_value_array_get_value (polygon, 2 * index + 1));
  return TRUE;
}

/* The density map; its sum times the camera's scale factor is the count. FALSE where the counter
 * did not attach it (density-map=false), before the first count, and on a big-endian machine, since
 * cells are little-endian. */
static inline gboolean
vehicle_count_density (const GstStructure *count, VehicleCountDensity *density)
{
  const GValue *value = gst_structure_get_value (count, "density");
  gsize size = 0;

  if (G_BYTE_ORDER != G_LITTLE_ENDIAN || value == NULL || !G_VALUE_HOLDS (value, G_TYPE_BYTES))
    return FALSE;
  if (!gst_structure_get (count, "density-columns", G_TYPE_UINT, &density->columns, "density-rows",
                          G_TYPE_UINT, &density->rows, "density-x", G_TYPE_DOUBLE, &density->x,
                          "density-y", G_TYPE_DOUBLE, &density->y, "density-width", G_TYPE_DOUBLE,
                          &density->width, "density-height", G_TYPE_DOUBLE, &density->height, NULL))
    return FALSE;
  density->cells = (const gfloat *) g_bytes_get_data ((GBytes *) g_value_get_boxed (value), &size);
  return size == sizeof (gfloat) * density->columns * density->rows;
}

G_END_DECLS

#endif /* VEHICLECOUNT_META_H */
