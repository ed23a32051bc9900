/* Stands in for libnvbufsurface.so: "GPU" memory is host memory that only a mapping makes visible.
 * SPDX-License-Identifier: Apache-2.0 */
#include "standin.h"

static gint mapped;

gint
standin_mapped (void)
{
  return g_atomic_int_get (&mapped);
}

static int
each (NvBufSurface * surface, int index, int plane, int map)
{
  uint32_t p;

  if (index < 0 || (uint32_t) index >= surface->numFilled || plane != -1 || surface->memType == 2)
    return -1;
  for (p = 0; p < surface->surfaceList[index].planeParams.num_planes; p++) {
    NvBufSurfaceParams *params = &surface->surfaceList[index];

    /* bufferDesc holds the address that dataPtr does not tell. */
    params->mapped[p] = map ? (char *) (gsize) params->bufferDesc + params->planeParams.offset[p] : NULL;
  }
  g_atomic_int_add (&mapped, map ? 1 : -1);
  return 0;
}

int
NvBufSurfaceMap (NvBufSurface * surface, int index, int plane, int type)
{
  return type == 0 ? each (surface, index, plane, 1) : -1;
}

int
NvBufSurfaceUnMap (NvBufSurface * surface, int index, int plane)
{
  return each (surface, index, plane, 0);
}

int
NvBufSurfaceSyncForCpu (NvBufSurface * surface, int index, int plane)
{
  (void) plane;
  return index >= 0 && (uint32_t) index < surface->numFilled && surface->surfaceList[index].mapped[0] != NULL ? 0 : -1;
}
