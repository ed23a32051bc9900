/* Stands in for libnvbufsurface.so: "GPU" memory is host memory that only a mapping makes visible.
 * SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <dlfcn.h>

#include "standin.h"

static gint mapped, surfaces, images;
static gint surfaces_left = -1, images_left = -1, frame_type = 1, driver = 1;

gint
standin_mapped (void)
{
  return g_atomic_int_get (&mapped);
}

gint
standin_live_surfaces (void)
{
  return g_atomic_int_get (&surfaces);
}

gint
standin_egl_images (void)
{
  return g_atomic_int_get (&images);
}

void
standin_limit_surfaces (gint new_surfaces, gint new_images, gint type)
{
  g_atomic_int_set (&surfaces_left, new_surfaces);
  g_atomic_int_set (&images_left, new_images);
  g_atomic_int_set (&frame_type, type);
}

void
standin_set_driver (gint type)
{
  g_atomic_int_set (&driver, type);
}

/* Tells the stand-in for CUDA's driver, where it is in the process, of GPU memory; 0 bytes: it is
 * none any more. */
static void
share (gpointer memory, gsize bytes)
{
  int64_t (*tell) (int64_t, int64_t, int64_t);

  *(void **) &tell = dlsym (RTLD_DEFAULT, "sim_share");
  if (tell != NULL)
    tell ((int64_t) (gsize) memory, (int64_t) bytes, 0);
}

/* Whether there is one left, which is taken. */
static gboolean
take (gint *left)
{
  gint now = g_atomic_int_get (left);

  if (now == 0)
    return FALSE;
  if (now > 0)
    g_atomic_int_add (left, -1);
  return TRUE;
}

static int
each (NvBufSurface *surface, int index, int plane, int map)
{
  uint32_t p;

  if (index < 0 || (uint32_t) index >= surface->numFilled || plane != -1 || surface->memType == 2)
    return -1;
  for (p = 0; p < surface->surfaceList[index].planeParams.num_planes; p++) {
    NvBufSurfaceParams *params = &surface->surfaceList[index];

    /* bufferDesc holds the address that dataPtr does not tell. */
    params->mapped[p]
        = map ? (char *) (gsize) params->bufferDesc + params->planeParams.offset[p] : NULL;
  }
  g_atomic_int_add (&mapped, map ? 1 : -1);
  return 0;
}

int
NvBufSurfaceMap (NvBufSurface *surface, int index, int plane, int type)
{
  return type == 0 ? each (surface, index, plane, 1) : -1;
}

int
NvBufSurfaceUnMap (NvBufSurface *surface, int index, int plane)
{
  return each (surface, index, plane, 0);
}

int
NvBufSurfaceSyncForCpu (NvBufSurface *surface, int index, int plane)
{
  (void) plane;
  return index >= 0 && (uint32_t) index < surface->numFilled
                 && surface->surfaceList[index].mapped[0] != NULL
             ? 0
             : -1;
}

int
NvBufSurfaceCreate (NvBufSurface **made, uint32_t batch, NvBufSurfaceCreateParams *params)
{
  NvBufSurface *surface;
  NvBufSurfaceParams *picture;

  /* Only what is asked for: one pitch-linear RGBA picture. */
  if (batch != 1 || params->colorFormat != 19 || params->layout != 0 || params->size != 0
      || !take (&surfaces_left))
    return -1;
  if (params->memType != (g_atomic_int_get (&driver) == 2 ? 2 : 4) && params->memType != 4)
    return -1;
  surface = g_new0 (NvBufSurface, 1);
  surface->batchSize = 1;
  surface->memType = params->memType;
  surface->surfaceList = picture = g_new0 (NvBufSurfaceParams, 1);
  picture->width = picture->planeParams.width[0] = params->width;
  picture->height = picture->planeParams.height[0] = params->height;
  picture->colorFormat = params->colorFormat;
  picture->planeParams.num_planes = 1;
  picture->planeParams.bytesPerPix[0] = 4;
  picture->pitch = picture->planeParams.pitch[0] = (4 * params->width + 255) / 256 * 256;
  picture->dataSize = picture->planeParams.psize[0] = picture->pitch * picture->height;
  picture->bufferDesc = (gsize) g_malloc (picture->dataSize);
  if (params->memType == 2) {
    picture->dataPtr = (void *) (gsize) picture->bufferDesc;
    share (picture->dataPtr, picture->dataSize);
  }
  g_atomic_int_inc (&surfaces);
  *made = surface;
  return 0;
}

int
NvBufSurfaceDestroy (NvBufSurface *surface)
{
  /* An image that is still mapped would be lost. */
  g_assert (surface->surfaceList->eglImage == NULL && surface->surfaceList->mapped[0] == NULL);
  if (surface->surfaceList->dataPtr != NULL)
    share (surface->surfaceList->dataPtr, 0);
  g_free ((gpointer) (gsize) surface->surfaceList->bufferDesc);
  g_free (surface->surfaceList);
  g_free (surface);
  g_atomic_int_add (&surfaces, -1);
  return 0;
}

int
NvBufSurfaceMapEglImage (NvBufSurface *surface, int index)
{
  NvBufSurfaceParams *params = &surface->surfaceList[index];
  StandinEglImage *image;

  if (index != 0 || surface->memType != 4 || params->layout != 0 || params->eglImage != NULL
      || !take (&images_left))
    return -1;
  image = g_new0 (StandinEglImage, 1);
  image->magic = STANDIN_EGL;
  image->data = (void *) (gsize) params->bufferDesc;
  image->bytes = params->dataSize;
  image->width = params->width;
  image->height = params->height;
  image->pitch = params->pitch;
  image->frame_type = (uint32_t) g_atomic_int_get (&frame_type);
  params->eglImage = image;
  g_atomic_int_inc (&images);
  return 0;
}

int
NvBufSurfaceUnMapEglImage (NvBufSurface *surface, int index)
{
  NvBufSurfaceParams *params = &surface->surfaceList[index];

  if (index != 0 || params->eglImage == NULL)
    return -1;
  g_free (params->eglImage);
  params->eglImage = NULL;
  g_atomic_int_add (&images, -1);
  return 0;
}

int
NvBufSurfaceGetDeviceInfo (int *info)
{
  *info = g_atomic_int_get (&driver);
  return 0;
}
