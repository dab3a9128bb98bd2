#!/bin/sh
#SBATCH --job-name=r1
#SBATCH --comment=rompy-hydra:1f
#SBATCH --export=NONE
#SBATCH --open-mode=append
#SBATCH --output="/scratch/my runs/r1/logs/job-1/task.0"
#SBATCH --time=1-12:00:00
#SBATCH --partition=compute
#SBATCH --account=ocean
#SBATCH --qos=normal
#SBATCH --reservation=workshop
#SBATCH --constraint=intel|amd
#SBATCH --nodes=2
#SBATCH --ntasks=8
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=2
#SBATCH --mem=4096M
#SBATCH --gres=scratch:1
#SBATCH --gpus=4
#SBATCH --exclusive
#SBATCH --signal=B:USR1@300
#SBATCH --mail-type=END,FAIL
#SBATCH --mail-user=me@example.org
#SBATCH --nice=5
#SBATCH -x "bad node"
#SBATCH --licenses="a b"

rh_newline='
' rh_return=$(printf '\r')
rh_token=1f
rh_dir='/scratch/my runs/r1/logs/job-1'
rh_slots=1
rh_early=USR1
rh_module_init=''

[the shim]

rh_open
cd -- '/home/me/my project' || rh_fail base
rh_module_command
module purge || rh_fail purge
module load ocean/1.2 || rh_fail module:ocean/1.2
module load mpi || rh_fail module:mpi
eval 'export OMP_PLACES=cores' || rh_fail setup:1
eval 'echo '"'"'it'"'"''"'"'s ready'"'"'' || rh_fail setup:2
rh_secret API_KEY 'E:/home/me/my project/.env'; rh_secret_API_KEY=$rh_value
unset rh_value
rh_ready
rh_environment() {
    export PATH="${PATH:+$PATH:}"/home/me/venv/bin
    :
}
mkdir -p -- '/scratch/my runs/r1' '/scratch/my runs/r1/logs' || rh_fail mkdir
rh_point 0 d='/scratch/my runs/r1' w='/scratch/my runs/r1' o='/scratch/my runs/r1/logs/stdout.log' e='/scratch/my runs/r1/logs/stderr.log' E=DEPTH='a b' E=TOKEN=x"$rh_secret_API_KEY"y E=LINES='one'"$rh_newline"'two'"$rh_return"''"$rh_newline"'' t=720000 g=3000 x='0 2' f='*.nc' H=done a='\bNaN\b' c='./check '"'"'a b'"'"'' k='/scratch/my runs/r1/logs/check.log' T=60000 r=3 S=failed R=75 p=1000 P=60000 -- srun -n 8 ./model 'it'"'"'s' '$(no)'
rh_close
