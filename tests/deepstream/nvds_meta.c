/* Stands in for libnvds_meta.so. Every element of a pool is a piece of memory of its own, so that
 * memory checkers see its ends.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <string.h>

#include "standin.h"

static guint user_pool_size, display_pool_size;
static gint unlocked_calls, live_batches;
static GPrivate depth; /* locks that this thread holds, plus one */

void
standin_set_pools (guint user, guint display)
{
  user_pool_size = user;
  display_pool_size = display;
}

gint
standin_unlocked_calls (void)
{
  return g_atomic_int_get (&unlocked_calls);
}

gint
standin_live_batches (void)
{
  return g_atomic_int_get (&live_batches);
}

void
nvds_acquire_meta_lock (NvDsBatchMeta *batch)
{
  g_rec_mutex_lock (&batch->meta_mutex);
  g_private_set (&depth, GINT_TO_POINTER (GPOINTER_TO_INT (g_private_get (&depth)) + 1));
}

void
nvds_release_meta_lock (NvDsBatchMeta *batch)
{
  g_private_set (&depth, GINT_TO_POINTER (GPOINTER_TO_INT (g_private_get (&depth)) - 1));
  g_rec_mutex_unlock (&batch->meta_mutex);
}

static void
needs_lock (void)
{
  if (GPOINTER_TO_INT (g_private_get (&depth)) <= 0)
    g_atomic_int_inc (&unlocked_calls);
}

static NvDsMetaPool *
pool_new (NvDsBatchMeta *batch, NvDsMetaType type, guint elements, guint size)
{
  NvDsMetaPool *pool = g_new0 (NvDsMetaPool, 1);
  guint i;

  pool->meta_type = type;
  pool->max_elements_in_pool = pool->num_empty_elements = elements;
  pool->element_size = size;
  for (i = 0; i < elements; i++) {
    NvDsBaseMeta *base = g_malloc0 (size);

    base->batch_meta = batch;
    base->meta_type = type;
    pool->empty_list = g_list_prepend (pool->empty_list, base);
  }
  return pool;
}

static gpointer
pool_take (NvDsMetaPool *pool)
{
  GList *first = pool->empty_list;

  if (first == NULL)
    return NULL;
  pool->empty_list = g_list_remove_link (pool->empty_list, first);
  pool->full_list = g_list_concat (pool->full_list, first);
  pool->num_empty_elements--;
  pool->num_full_elements++;
  return first->data;
}

static void
pool_free (NvDsMetaPool *pool)
{
  g_list_free_full (pool->empty_list, g_free);
  g_list_free_full (pool->full_list, g_free);
  g_free (pool);
}

NvDsBatchMeta *
nvds_create_batch_meta (guint max)
{
  NvDsBatchMeta *batch = g_new0 (NvDsBatchMeta, 1);

  g_rec_mutex_init (&batch->meta_mutex);
  /* max_frames_in_batch is left to whoever calls this, as NVIDIA's library leaves it. */
  batch->frame_meta_pool = pool_new (batch, STANDIN_FRAME_META, max, sizeof (NvDsFrameMeta));
  batch->display_meta_pool
      = pool_new (batch, STANDIN_DISPLAY_META, display_pool_size ? display_pool_size : 8 * max,
                  sizeof (NvDsDisplayMeta));
  batch->user_meta_pool = pool_new (
      batch, STANDIN_USER_META, user_pool_size ? user_pool_size : 16 * max, sizeof (NvDsUserMeta));
  g_atomic_int_inc (&live_batches);
  return batch;
}

static void
user_release (gpointer data)
{
  NvDsUserMeta *user = data;

  if (user->base_meta.release_func != NULL)
    user->base_meta.release_func (user, NULL);
}

gboolean
nvds_destroy_batch_meta (NvDsBatchMeta *batch)
{
  GList *l, *k;
  guint i;

  for (l = batch->frame_meta_list; l != NULL; l = l->next) {
    NvDsFrameMeta *frame = l->data;

    g_list_free_full (frame->frame_user_meta_list, user_release);
    for (k = frame->display_meta_list; k != NULL; k = k->next) {
      NvDsDisplayMeta *display = k->data;

      for (i = 0; i < display->num_labels; i++)
        g_free (display->text_params[i].display_text);
    }
    g_list_free (frame->display_meta_list);
  }
  g_list_free (batch->frame_meta_list);
  pool_free (batch->frame_meta_pool);
  pool_free (batch->display_meta_pool);
  pool_free (batch->user_meta_pool);
  g_rec_mutex_clear (&batch->meta_mutex);
  g_free (batch);
  g_atomic_int_add (&live_batches, -1);
  return TRUE;
}

NvDsFrameMeta *
nvds_acquire_frame_meta_from_pool (NvDsBatchMeta *batch)
{
  return pool_take (batch->frame_meta_pool);
}

void
nvds_add_frame_meta_to_batch (NvDsBatchMeta *batch, NvDsFrameMeta *frame)
{
  batch->frame_meta_list = g_list_append (batch->frame_meta_list, frame);
  batch->num_frames_in_batch++;
}

NvDsUserMeta *
nvds_acquire_user_meta_from_pool (NvDsBatchMeta *batch)
{
  needs_lock ();
  return pool_take (batch->user_meta_pool);
}

void
nvds_add_user_meta_to_frame (NvDsFrameMeta *frame, NvDsUserMeta *user)
{
  needs_lock ();
  frame->frame_user_meta_list = g_list_append (frame->frame_user_meta_list, user);
}

NvDsDisplayMeta *
nvds_acquire_display_meta_from_pool (NvDsBatchMeta *batch)
{
  needs_lock ();
  return pool_take (batch->display_meta_pool);
}

void
nvds_add_display_meta_to_frame (NvDsFrameMeta *frame, NvDsDisplayMeta *display)
{
  needs_lock ();
  frame->display_meta_list = g_list_append (frame->display_meta_list, display);
}

void
nvds_copy_frame_meta (NvDsFrameMeta *from, NvDsFrameMeta *to)
{
  NvDsBatchMeta *batch = to->base_meta.batch_meta;
  GList *l;
  guint i;

  nvds_acquire_meta_lock (batch);
  *to = *from;
  to->base_meta.batch_meta = batch;
  to->frame_user_meta_list = to->display_meta_list = to->obj_meta_list = NULL;
  for (l = from->frame_user_meta_list; l != NULL; l = l->next) {
    NvDsUserMeta *user = l->data, *copy;

    if (user->base_meta.copy_func == NULL
        || (copy = nvds_acquire_user_meta_from_pool (batch)) == NULL)
      continue;
    copy->base_meta = user->base_meta;
    copy->base_meta.batch_meta = batch;
    copy->user_meta_data = user->base_meta.copy_func (user, NULL);
    nvds_add_user_meta_to_frame (to, copy);
  }
  for (l = from->display_meta_list; l != NULL; l = l->next) {
    NvDsDisplayMeta *display = l->data, *copy = nvds_acquire_display_meta_from_pool (batch);

    if (copy == NULL)
      continue;
    *copy = *display;
    copy->base_meta.batch_meta = batch;
    for (i = 0; i < copy->num_labels; i++)
      copy->text_params[i].display_text = g_strdup (display->text_params[i].display_text);
    nvds_add_display_meta_to_frame (to, copy);
  }
  nvds_release_meta_lock (batch);
}

gpointer
nvds_batch_meta_copy_func (gpointer data, gpointer user_data)
{
  NvDsBatchMeta *from = data, *to = nvds_create_batch_meta (from->max_frames_in_batch);
  GList *l;

  (void) user_data;
  nvds_acquire_meta_lock (from);
  to->base_meta = from->base_meta;
  to->max_frames_in_batch = from->max_frames_in_batch;
  to->base_meta.batch_meta = to;
  for (l = from->frame_meta_list; l != NULL; l = l->next) {
    NvDsFrameMeta *frame = nvds_acquire_frame_meta_from_pool (to);

    nvds_copy_frame_meta (l->data, frame);
    nvds_add_frame_meta_to_batch (to, frame);
  }
  nvds_release_meta_lock (from);
  return to;
}

void
nvds_batch_meta_release_func (gpointer data, gpointer user_data)
{
  (void) user_data;
  nvds_destroy_batch_meta (data);
}

NvDsMetaType
nvds_get_user_meta_type (gchar *descriptor)
{
  static GMutex mutex;
  static GPtrArray *names;
  guint i;

  g_mutex_lock (&mutex);
  if (names == NULL)
    names = g_ptr_array_new ();
  for (i = 0; i < names->len && strcmp (names->pdata[i], descriptor) != 0; i++)
    ;
  if (i == names->len)
    g_ptr_array_add (names, g_strdup (descriptor));
  g_mutex_unlock (&mutex);
  return 8193 + (NvDsMetaType) i;
}
