"""Models and states on disk, without PyTorch.

Read in this order: `checkpoint` (load, save), `sources` (from a path to the files of a model), `official` (names and
shapes of arrays), `tensors` (.safetensors), `torch_zip` and `torch_pickle` (.pth), `hugging_face` and `hub`, `states`,
`atomic` (no file is ever half written), `errors`, `bundled`.
"""
