"""Models and states on disk, without PyTorch.

In reading order: `checkpoint` loads and saves models. `sources` finds the files that hold one, `tensors` opens
a file, `safetensors_file`, `torch_zip` and `torch_pickle` read the two formats, `unwrap` finds the weights in a
checkpoint, `official` and `hugging_face` know the names and shapes of the arrays, `dtypes` bfloat16, and
`tokenizer_files` finds the tokenizer. `states` loads and saves states, `adapters` merges LoRA adapters, `hub`
downloads. `recognise` says what any other file is, `errors` names the file, `atomic` writes no file by halves.
"""
