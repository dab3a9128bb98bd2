#!/bin/sh
#SBATCH --job-name=sweep
#SBATCH --comment=rompy-hydra:2e
#SBATCH --export=NONE
#SBATCH --open-mode=append
#SBATCH --output=/scratch/s%%1/jobs/2e/task.%a
#SBATCH --time=0-00:20:00
#SBATCH --array=0-99%10
#SBATCH --nodes=1
#SBATCH --ntasks=4
#SBATCH --cpus-per-task=1
#SBATCH --mem=400M
# 100 tasks
# #SBATCH --no-directive

rh_newline='
' rh_return=$(printf '\r')
rh_token=2e
rh_dir=/scratch/s%1/jobs/2e
rh_slots=4
rh_early=TERM
rh_module_init=''

[the shim]

rh_open
rh_ready
rh_environment() {
    export A=1
    :
}
eval "$(sed -n "$((rh_task + 1))p" "$rh_dir/points")"
rh_close
