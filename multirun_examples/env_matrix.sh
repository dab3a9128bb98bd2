rompy-hydra run -m model=command backend.command='"echo ${resources.time_limit}; env | grep LOG_LEVEL || true"' env=dev,hpc backend=local vars.member=1,2
# small form: vars.member=1
#
# The matrix of environments and members, on this machine: an environment (conf/env/) sets limits, variables and where to
# run; `backend=local` keeps all of it here.  Without that word the points of `hpc` go to the batch system.
