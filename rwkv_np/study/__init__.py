"""Tools to study a model: what the notebooks and the book are made with.

=====================  ======================================================================
`trace`                the state over time, the operator's inputs, half-lives
`cost`                 parameters, FLOPs and state floats of a model of any size, counted
`measure`              time and memory of token mixing, measured beside softmax attention
`mixers`               the two layers that are measured
`cost_report`          what the command ``cost`` prints and draws
`softmax_attention`    what time mixing replaces, with its growing cache
`softmax_model`        a language model with it, to race memories
`memory_tasks`         recall, parity and permutations, as endless random sequences
`cascade`              layers that advance in time partly in parallel
`agreement`            the table of differences that ends each notebook
`imports`              the imports of this package, read from its source
`plots`                the pictures
=====================  ======================================================================
"""
