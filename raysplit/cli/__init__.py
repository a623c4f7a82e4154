"""The ``raysplit`` command.

`main` has the group and loads each command when it is called; `options` has types of arguments, `streams` the output,
`files` the names of files to write, `stopping` the end by a signal and `trust` the question before foreign code is run;
`progress` and `tables` format metrics and predictions for a terminal. Each command is a file in `training`, `results`,
`planning`, `serving` or `machines`, which are the headings of ``raysplit --help``; `pictures` has their figures. A
command imports torch, Ray and matplotlib inside its function, so that help does not wait for them. Nothing outside uses
this package but the script entry `raysplit.__main__:main`.
"""
