// What TensorRT's headers need of CUDA's: two handles. So the shim is built where CUDA is not
// installed.
#pragma once
typedef struct CUstream_st *cudaStream_t;
typedef struct CUevent_st *cudaEvent_t;
