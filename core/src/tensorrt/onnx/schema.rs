//! Numbers of the fields of ONNX's messages, and values of its enumerations.
//!
//! They are those of `onnx.proto` in <https://github.com/onnx/onnx>, by the names of its messages.

pub const MODEL_GRAPH: u64 = 7;
pub const MODEL_OPSET: u64 = 8;
pub const OPSET_DOMAIN: u64 = 1;
pub const OPSET_VERSION: u64 = 2;
pub const GRAPH_NODE: u64 = 1;
pub const GRAPH_INITIALIZER: u64 = 5;
pub const GRAPH_INPUT: u64 = 11;
pub const GRAPH_OUTPUT: u64 = 12;
pub const GRAPH_VALUE_INFO: u64 = 13;
pub const GRAPH_SPARSE: u64 = 15;
pub const NODE_INPUT: u64 = 1;
pub const NODE_OUTPUT: u64 = 2;
pub const NODE_NAME: u64 = 3;
pub const NODE_OPERATOR: u64 = 4;
pub const NODE_ATTRIBUTE: u64 = 5;
pub const ATTRIBUTE_NAME: u64 = 1;
pub const ATTRIBUTE_INT: u64 = 3;
pub const ATTRIBUTE_TENSOR: u64 = 5;
pub const ATTRIBUTE_GRAPH: u64 = 6;
pub const ATTRIBUTE_INTS: u64 = 8;
pub const ATTRIBUTE_TYPE: u64 = 20;
pub const TENSOR_SIZES: u64 = 1;
pub const TENSOR_TYPE: u64 = 2;
pub const TENSOR_FLOATS: u64 = 4;
pub const TENSOR_NAME: u64 = 8;
pub const TENSOR_RAW: u64 = 9;
pub const TENSOR_EXTERNAL: u64 = 13;
pub const TENSOR_LOCATION: u64 = 14;
pub const FLOAT: u64 = 1;
pub const INT64: u64 = 7;
pub const FLOAT16: u64 = 10;
/// `AttributeProto.INT`.
pub const INT: u64 = 2;
