//! Tensors that nvinfer leaves.

use std::ffi::{c_char, c_void};
use std::mem::{offset_of, size_of};

use glib::ffi::gboolean;

/// `NvDsInferDims`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct InferDims {
    /// How many of `d` count.
    pub num_dims: u32,
    /// Sizes, without the batch.
    pub d: [u32; 8],
    /// Their product.
    pub num_elements: u32,
}

/// `NvDsInferLayerInfo`.
#[repr(C)]
pub struct InferLayerInfo {
    /// 0: float, 1: half, 2: int8, 3: int32.
    pub data_type: i32,
    /// Shape.
    pub dims: InferDims,
    /// Index in the network.
    pub binding_index: i32,
    /// Name of the tensor.
    pub name: *const c_char,
    /// Not valid here.
    pub buffer: *mut c_void,
    /// An input.
    pub is_input: i32,
}

/// `NvDsInferTensorMeta`. `symmetric_padding` lies past the end before 7.0.
#[repr(C)]
pub struct InferTensorMeta {
    /// `gie-unique-id` of the nvinfer that wrote it.
    pub unique_id: u32,
    /// Number of output layers.
    pub num_layers: u32,
    /// The layers.
    pub layers: *const InferLayerInfo,
    /// This frame's values of each layer, in host memory.
    pub host: *const *const c_void,
    /// The same on the GPU.
    pub device: *const *const c_void,
    /// Which GPU.
    pub gpu_id: i32,
    /// nvinfer's.
    pub private: *mut c_void,
    /// Width of the network's input.
    pub network_width: u32,
    /// Height of the network's input.
    pub network_height: u32,
    /// Channels of the network's input.
    pub network_channels: u32,
    /// The picture kept its aspect ratio; 6.1 and later.
    pub maintain_aspect_ratio: gboolean,
    /// The picture lies in the middle; 7.0 and later.
    pub symmetric_padding: gboolean,
}

layout!(InferDims: 40 { num_dims @ 0, d @ 4, num_elements @ 36 });
layout!(InferLayerInfo: 72 {
    data_type @ 0, dims @ 4, binding_index @ 44, name @ 48, buffer @ 56, is_input @ 64,
});
layout!(InferTensorMeta: 72 {
    unique_id @ 0, num_layers @ 4, layers @ 8, host @ 16, device @ 24, gpu_id @ 32, private @ 40,
    network_width @ 48, network_height @ 52, network_channels @ 56, maintain_aspect_ratio @ 60,
    symmetric_padding @ 64,
});
