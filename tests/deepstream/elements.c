/* DeepStream's elements as the ready pipelines name them, with their pads and the names of their
 * properties: enough to parse a pipeline, and to find a property that does not exist. Names are
 * those of the sources published with 9.1, and, for elements without, of NVIDIA's manual.
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include <gst/gst.h>

typedef struct {
  const char *name;
  const char *pads; /* of "i", an input, "m", inputs on request, and "o", an output */
  const char *properties;
} Kind;

#define SOURCE                                                                                     \
  "gpu-id latency cudadec-memtype drop-frame-interval dec-skip-frames num-extra-surfaces "         \
  "select-rtp-protocol rtsp-reconnect-interval "                                                   \
  "rtsp-reconnect-attempts init-rtsp-reconnect-interval file-loop disable-audio drop-on-latency "  \
  "udp-buffer-size type smart-record "
#define MUXER                                                                                      \
  "width height batched-push-timeout live-source enable-padding nvbuf-memory-type "                \
  "num-surfaces-per-frame buffer-pool-size attach-sys-ts "                                         \
  "sync-inputs max-latency frame-duration interpolation-method async-process drop-pipeline-eos "   \
  "frame-num-reset-on-eos "

static const Kind kinds[] = {
  { "nvurisrcbin", "o", SOURCE "uri source-id" },
  { "nvmultiurisrcbin", "o",
    SOURCE "uri-list sensor-id-list sensor-name-list max-batch-size port ip-address mode " MUXER },
  { "nvarguscamerasrc", "o", "sensor-id" },
  { "nvstreammux", "mo", MUXER "gpu-id batch-size config-file-path compute-hw" },
  { "nvinfer", "io",
    "config-file-path batch-size gpu-id interval unique-id model-engine-file process-mode "
    "infer-on-gie-id output-tensor-meta input-tensor-meta strongly-typed" },
  { "nvmultistreamtiler", "io",
    "rows columns width height gpu-id nvbuf-memory-type show-source compute-hw" },
  { "nvvideoconvert", "io", "gpu-id nvbuf-memory-type compute-hw interpolation-method" },
  { "nvdsosd", "io",
    "gpu-id process-mode display-text display-bbox display-mask display-clock clock-font "
    "clock-font-size" },
  { "nvmsgconv", "io",
    "config msg2p-lib payload-type comp-id debug-payload-dir multiple-payloads msg2p-newapi "
    "frame-interval dummy-payload" },
  { "nvmsgbroker", "i", "proto-lib conn-str config topic comp-id new-api sleep-time sync async" },
  { "nveglglessink", "i", "sync async qos" },
  { "nv3dsink", "i", "sync async qos" },
  { "nvdrmvideosink", "i", "sync async conn-id plane-id" },
  { "nvv4l2h264enc", "io", "bitrate" },
  { "nvv4l2h265enc", "io", "bitrate" },
};

static void
set_property (GObject *object, guint id, const GValue *value, GParamSpec *spec)
{
  (void) object;
  (void) id;
  (void) value;
  (void) spec;
}

static GstPad *
request_new_pad (GstElement *element, GstPadTemplate *template, const gchar *name,
                 const GstCaps *caps)
{
  GstPad *pad = gst_pad_new_from_template (template, name);

  (void) caps;
  gst_element_add_pad (element, pad);
  return pad;
}

static void
class_init (gpointer class, gpointer data)
{
  const Kind *kind = data;
  gchar **names = g_strsplit (kind->properties, " ", 0), **name;
  GstCaps *any = gst_caps_new_any ();
  guint id = 1;

  G_OBJECT_CLASS (class)->set_property = set_property;
  GST_ELEMENT_CLASS (class)->request_new_pad = request_new_pad;
  for (name = names; *name != NULL; name++)
    if (**name != '\0')
      g_object_class_install_property (
          class, id++, g_param_spec_string (*name, *name, *name, NULL, G_PARAM_WRITABLE));
  g_strfreev (names);
  if (strchr (kind->pads, 'i'))
    gst_element_class_add_pad_template (
        class, gst_pad_template_new ("sink", GST_PAD_SINK, GST_PAD_ALWAYS, any));
  if (strchr (kind->pads, 'm'))
    gst_element_class_add_pad_template (
        class, gst_pad_template_new ("sink_%u", GST_PAD_SINK, GST_PAD_REQUEST, any));
  if (strchr (kind->pads, 'o'))
    gst_element_class_add_pad_template (
        class, gst_pad_template_new ("src", GST_PAD_SRC, GST_PAD_ALWAYS, any));
  gst_caps_unref (any);
  gst_element_class_set_static_metadata (class, kind->name, "Test",
                                         "Stands in for an element of DeepStream",
                                         "The vehiclecount authors");
}

static void
init (GTypeInstance *instance, gpointer class)
{
  const gchar *names[] = { "sink", "src" };
  guint i;

  for (i = 0; i < 2; i++) {
    GstPadTemplate *template = gst_element_class_get_pad_template (class, names[i]);

    if (template != NULL)
      gst_element_add_pad (GST_ELEMENT (instance), gst_pad_new_from_template (template, names[i]));
  }
}

static gboolean
plugin_init (GstPlugin *plugin)
{
  guint i;

  for (i = 0; i < G_N_ELEMENTS (kinds); i++) {
    gchar *name = g_strconcat ("Standin", kinds[i].name, NULL);
    GTypeInfo info = { .class_size = sizeof (GstElementClass),
                       .class_init = class_init,
                       .class_data = &kinds[i],
                       .instance_size = sizeof (GstElement),
                       .instance_init = init };
    GType type = g_type_register_static (GST_TYPE_ELEMENT, name, &info, 0);

    g_free (name);
    if (!gst_element_register (plugin, kinds[i].name, GST_RANK_NONE, type))
      return FALSE;
  }
  return TRUE;
}

#define PACKAGE "standin"
GST_PLUGIN_DEFINE (GST_VERSION_MAJOR, GST_VERSION_MINOR, standinelements,
                   "DeepStream's elements, to parse with", plugin_init, "1", "Apache 2.0",
                   "standin", "https://github.com/vehiclecount/vehiclecount")
