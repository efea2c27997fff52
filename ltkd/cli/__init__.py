"""The commands of the command line, a file a topic: what each does, and its options below."""

from . import benchmarking, data, results, training

ADD = (*training.ADD, *results.ADD, *data.ADD, *benchmarking.ADD)  # each adds its command to a parser of commands
