"""The fused kernels, in Triton: attention on a GPU without a (q_len, k_len) table.

| file                | what it computes                                                            |
|---------------------|-----------------------------------------------------------------------------|
| `parts.py`          | what all kernels share: a tile of scores, what a mask hides, dropout        |
| `forward.py`        | the output, and two numbers for each row                                    |
| `backward.py`       | gradients of query, key and value, of sinks and slopes                      |
| `bias_gradient.py`  | the gradient of a bias of any broadcast shape                               |
| `decode.py`         | few queries, many keys: the keys shared out among programs                  |
| `reading.py`        | weights of chosen rows, their sums over queries, entropies                  |
| `plan.py`, `spans.py` | a mask as numbers, spans and lists of tiles                               |
| `tiles.py`          | how large the tiles are, for each chip                                      |
| `ops.py`            | the kernels as operators of torch, with their gradients                     |

`attnkit/backends/online.py` is the same algorithm in torch, line by line and with the same names: read it first.
Files that hold a kernel import triton; nothing here is imported before a GPU, or Triton's interpreter, is asked for.
"""
