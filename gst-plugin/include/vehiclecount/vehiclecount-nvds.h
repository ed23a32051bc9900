/* Reads the vehicle count that vehiclecounternvmm leaves on frames of a DeepStream pipeline.
 * Include DeepStream's gstnvdsmeta.h before this header. The count is frame-level NvDsUserMeta;
 * docs/deepstream.md lists the fields with their units. There is no library of ours to link.
 * Everything lies in one piece of memory that belongs to the metadata: it is valid as long as the
 * buffer is held.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef VEHICLECOUNT_NVDS_H
#define VEHICLECOUNT_NVDS_H

#include <stdint.h>

#include <glib.h>

G_BEGIN_DECLS

/* The name that the type is registered under, for nvds_get_user_meta_type. */
#define VEHICLE_COUNT_NVDS_TYPE_NAME "VEHICLECOUNT.COUNTER.FRAME_COUNT"

#define VEHICLE_COUNT_NVDS_MAGIC 0x544e4356u /* "VCNT" */
#define VEHICLE_COUNT_NVDS_VERSION                                                                 \
  2u /* later versions add fields at the end; 2 added received_time */

/* Flags of a count; the first one of regions too. */
#define VEHICLE_COUNT_NVDS_COUNTED 1u /* count, smoothed and level are there */
#define VEHICLE_COUNT_NVDS_STALE                                                                   \
  2u /* the count should have been this frame's own and is an older one */
#define VEHICLE_COUNT_NVDS_PTS 4u          /* pts is there */
#define VEHICLE_COUNT_NVDS_CAPTURE_TIME 8u /* capture_time is there */

typedef enum {
  VEHICLE_COUNT_NVDS_FREE,
  VEHICLE_COUNT_NVDS_MODERATE,
  VEHICLE_COUNT_NVDS_DENSE,
  VEHICLE_COUNT_NVDS_JAMMED
} VehicleCountNvdsLevel;

typedef struct {
  const char *name;
  const double *corners; /* x, y, x, y, ... in 0..1 of the frame: 2 * n_corners of them */
  uint32_t n_corners;
  uint32_t flags; /* VEHICLE_COUNT_NVDS_COUNTED or none */
  int32_t level;  /* VehicleCountNvdsLevel */
  uint32_t reserved;
  double count;    /* vehicles */
  double smoothed; /* the same, smoothed over time */
} VehicleCountNvdsRegion;

typedef struct {
  uint32_t magic;          /* VEHICLE_COUNT_NVDS_MAGIC */
  uint32_t version;        /* VEHICLE_COUNT_NVDS_VERSION or later */
  uint64_t size;           /* bytes of the whole piece */
  uint32_t unique_id;      /* the counter's unique-id */
  uint32_t source_id;      /* as in NvDsFrameMeta */
  uint32_t flags;          /* VEHICLE_COUNT_NVDS_... */
  int32_t level;           /* VehicleCountNvdsLevel */
  uint64_t sequence;       /* number of the frame in its source, from 0 */
  uint64_t pts;            /* ns */
  uint64_t capture_time;   /* ns since 1970: NvDsFrameMeta's ntp_timestamp */
  uint64_t age;            /* ns that the counted picture is older than this frame */
  uint64_t inference_time; /* ns that our engine took for the batch; 0 with nvinfer */
  double count;            /* vehicles in the frame */
  double smoothed;         /* the same, smoothed over time */
  const char *camera;
  const char *model;
  const char *engine; /* "nvinfer", or the engine of ours */
  const VehicleCountNvdsRegion *regions;
  uint32_t n_regions;
  uint32_t columns; /* of the density; 0 where there is none */
  uint32_t rows;
  uint32_t reserved;
  const float
      *cells; /* vehicles per cell, row by row from the top left; NULL where there is no density */
  double x; /* the grid in the frame, which spans 0..1 both ways; larger than the frame where it has
               borders */
  double y;
  double width;
  double height;
  uint64_t
      received_time; /* ns since 1970: when the frame reached the counter, by the machine's clock */
} VehicleCountNvds;

/* "free", "moderate", "dense" or "jammed". */
static inline const char *
vehicle_count_nvds_level_name (int32_t level)
{
  static const char *const names[] = { "free", "moderate", "dense", "jammed" };

  return level >= 0 && level < 4 ? names[level] : "unknown";
}

/* The count behind a user meta, or NULL where it is another program's. */
static inline const VehicleCountNvds *
vehicle_count_nvds_from_user_meta (const NvDsUserMeta *user)
{
  const VehicleCountNvds *count;

  if (user->base_meta.meta_type != nvds_get_user_meta_type ((gchar *) VEHICLE_COUNT_NVDS_TYPE_NAME))
    return NULL;
  count = (const VehicleCountNvds *) user->user_meta_data;
  return count != NULL && count->magic == VEHICLE_COUNT_NVDS_MAGIC
                 && count->version >= VEHICLE_COUNT_NVDS_VERSION
             ? count
             : NULL;
}

/* The next count on the frame, NULL after the last. Begin with *state = NULL. A frame carries one
 * of each counter that it passed. Hold the batch's lock (nvds_acquire_meta_lock) from the first
 * call until done. */
static inline const VehicleCountNvds *
vehicle_count_nvds_next (const NvDsFrameMeta *frame, const GList **state)
{
  const GList *l = *state == NULL ? (const GList *) frame->frame_user_meta_list : (*state)->next;

  for (; l != NULL; l = l->next) {
    const VehicleCountNvds *count
        = vehicle_count_nvds_from_user_meta ((const NvDsUserMeta *) l->data);

    if (count != NULL) {
      *state = l;
      return count;
    }
  }
  return NULL;
}

/* The first count on the frame, or NULL where there is none. */
static inline const VehicleCountNvds *
vehicle_count_nvds_get (const NvDsFrameMeta *frame)
{
  const GList *state = NULL;

  return vehicle_count_nvds_next (frame, &state);
}

G_END_DECLS

#endif
