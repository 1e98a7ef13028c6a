#!/usr/bin/env bash
# shellcheck disable=SC2034
# Contrastive learning and deep modularity (Ochieng, arXiv 2305.10652): embeddings of frames or bins, a graph of
# those that are alike, and its communities, which are the speakers: nobody tells how many there are.
#
#   ./run.sh                                        all stages on the embedded corpus, on a CPU
#   ./run.sh --list                                 what is done, stale or missing
#   ./run.sh --config conf/libri.yaml --librispeech_dir /corpora/LibriSpeech --audiomnist_dir /corpora/AudioMNIST
#   ./run.sh --config conf/faithful.yaml --wsj0_dir /corpora/wsj0 --audiomnist_dir /corpora/AudioMNIST --ngpu 1
set -euo pipefail

stage=0               # N first stage to run: a number or a name
stop_stage=9          # N last stage to run
list=false            # print what is done, stale or missing, and stop
dry_run=false         # print what would run, and stop
force=false           # run also what is up to date
keep_going=false      # run the other tasks of a stage when one has failed
only=                 # TASK run one task of the stage, by the name that the stage prints
config=conf/mini.yaml # FILE all settings (also --train_config)
set=()                # KEY=VALUE change one setting; may be repeated
tag=                  # NAME of the experiment; when not given, the config's
corpus=               # mini|wsj0|librispeech|own; when not given, the config's
wsj0_dir=             # DIR with the discs of LDC93S6A or LDC93S6B
lists_dir=            # DIR with the published lists of WSJ0-mix; when not given, they are downloaded
librispeech_dir=      # DIR with any part of LibriSpeech; when not given, train-clean-100 is downloaded
voice_dir=            # DIR with one folder of recordings a speaker
audiomnist_dir=       # DIR with AudioMNIST's data: spoken digits, for methods with digits: true
noise_dir=            # DIR with noises of any kind (WHAM!'s, say), for mixtures with noise_snr_db
fs=                   # HZ sample rate: 8000 or 8k
seed=                 # N the same seed gives the same numbers
ngpu=                 # N devices to train on, 0 for the CPU; when not given, what is there
nj=                   # N jobs side by side; when not given, the number of cores
cmd=local             # NAME of the launcher
datadir=data          # DIR of the data directories
dumpdir=dump          # DIR of the features
expdir=exp            # DIR of models and results

here=$(cd "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
source "$here/../../utils/parse_options.sh"
cd "$here"
source ./path.sh
source ../../utils/stage.sh

common=(--recipe_dir . --recipe separation)
hand_on common config set tag corpus wsj0_dir lists_dir librispeech_dir voice_dir audiomnist_dir noise_dir \
  fs seed ngpu nj cmd datadir dumpdir expdir keep_going only force

# The speech: found where the options say, downloaded, or synthesised on the spot.
stage 0 corpus -- pse corpus "${common[@]}"
# Whose speech is for training, and whose for tests; the published lists; digits and noises.
stage 1 data -- python local/prepare.py "${common[@]}"
# Audio at one rate, active levels, and the mixtures of validation and tests.
stage 2 features -- pse features "${common[@]}"
# (3: the personalised recipe's)
# Encoders, by contrast: on single speakers, or on mixtures.
stage 4 pretrain -- pse train pretrain "${common[@]}"
# The same on mixtures; refiners of what clusters leave.
stage 5 finetune -- pse train finetune "${common[@]}"
# Graphs, communities and how many there are; the oracles of each kind of node; the baselines.
stage 6 enhance -- pse infer "${common[@]}"
# SI-SDR and SDR of each mixture.
stage 7 score -- pse score "${common[@]}"
# RESULTS.md, plots, and a page to listen to.
stage 8 report -- pse report "${common[@]}"
# Directories with model, card and checksums.
stage 9 pack -- pse pack "${common[@]}"

run_stages
