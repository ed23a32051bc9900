/* Stands in for libnvbufsurftransform.so. SPDX-License-Identifier: Apache-2.0 */
#include "standin.h"

static gint done, sessionless;
static gint left = -1, failure = -2;
static GPrivate session; /* set on this thread */

gint
standin_transforms (void)
{
  return g_atomic_int_get (&done);
}

gint
standin_sessionless (void)
{
  return g_atomic_int_get (&sessionless);
}

void
standin_limit_transforms (gint transforms, gint code)
{
  g_atomic_int_set (&left, transforms);
  g_atomic_int_set (&failure, code);
}

int
NvBufSurfTransformSetSessionParams (NvBufSurfTransformConfigParams *params)
{
  if (params->compute_mode != 0 || params->gpu_id != 0)
    return -3;
  g_private_set (&session, GINT_TO_POINTER (1));
  return 0;
}

static guint8
clamp (double value)
{
  return value < 0 ? 0 : value > 255 ? 255 : (guint8) (value + 0.5);
}

/* Pictures of one colour, as the stand-in makes them: of YUV, its chroma is grey. */
int
NvBufSurfTransform (NvBufSurface *from, NvBufSurface *to, NvBufSurfTransformParams *params)
{
  const NvBufSurfaceParams *source = from->surfaceList;
  NvBufSurfaceParams *target = to->surfaceList;
  const guint8 *in = (const guint8 *) (gsize) source->bufferDesc;
  guint8 *out = (guint8 *) (gsize) target->bufferDesc, mask = source->layout ? STANDIN_BLOCKS : 0;
  uint32_t x, y;
  gint now;

  if (g_private_get (&session) == NULL)
    g_atomic_int_inc (&sessionless);
  if (from->numFilled != 1 || from->batchSize != 1 || to->numFilled != 1
      || target->colorFormat != 19 || target->layout != 0 || params->transform_flip != 0)
    return -3;
  if (source->width != target->width || source->height != target->height)
    return -4;
  now = g_atomic_int_get (&left);
  if (now == 0)
    return g_atomic_int_get (&failure);
  if (now > 0)
    g_atomic_int_add (&left, -1);
  for (y = 0; y < source->height; y++)
    for (x = 0; x < source->width; x++) {
      guint8 *pixel = out + y * target->pitch + 4 * x, value;

      switch (source->colorFormat) {
      case 19:
        pixel[0] = in[y * source->pitch + 4 * x] ^ mask;
        pixel[1] = pixel[2] = 0;
        break;
      case 6:
      case 33:
      case 36:
        value = in[y * source->pitch + x] ^ mask;
        pixel[0] = pixel[1] = pixel[2] = clamp ((value - 16) * 255.0 / 219.0);
        break;
      default:
        return -1;
      }
      pixel[3] = 255;
    }
  g_atomic_int_inc (&done);
  return 0;
}
