#!/usr/bin/env bash
# shellcheck disable=SC2034
# Personalised speech enhancement: a model that learns one person's voice from that person's noisy
# recordings alone (Sivaraman & Kim, arXiv 2104.02017; Sivaraman, Kim & Kim, arXiv 2104.02018).
#
#   ./run.sh                                      all stages on the embedded corpus, on a CPU
#   ./run.sh --list                               what is done, stale or missing
#   ./run.sh --stage pretrain --stop_stage score  some of them
#   ./run.sh --config conf/full.yaml --corpus full --librispeech_dir /corpora/LibriSpeech --ngpu 1
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
corpus=               # mini|full|own the embedded corpora, the published, or your own; when not given, the config's
librispeech_dir=      # DIR with LibriSpeech; when not given, it is downloaded
fsd50k_dir=           # DIR with FSD50K, likewise
musan_dir=            # DIR with MUSAN, likewise
voice_dir=            # DIR with recordings of the target speakers, one folder a speaker, in place of the published
noise_dir=            # DIR with your own noises in place of FSD50K and MUSAN, split by recording
fs=                   # HZ sample rate: 16000 or 16k
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
source ./cmd.sh
source ../../utils/stage.sh

common=(--recipe_dir . --recipe personal)
hand_on common config set tag corpus librispeech_dir fsd50k_dir musan_dir voice_dir noise_dir fs seed ngpu nj cmd \
  datadir dumpdir expdir keep_going only force

# Corpora: found where the options say, downloaded and verified, or synthesised on the spot.
stage 0 corpus -- pse corpus "${common[@]}"
# Data directories: speaker and noise splits, and each person's own recordings by purpose.
stage 1 data -- python local/prepare.py "${common[@]}"
# Audio at one rate, levels, frame-SNR labels, and the mixtures of validation and test.
stage 2 features -- pse features "${common[@]}"
# A regressor of the SNR of each frame: it tells later stages which parts of a recording to trust.
stage 3 snr_predictor -- pse train snr_predictor "${common[@]}"
# Generalists, and specialists that learn from one person's noisy recordings.
stage 4 pretrain -- pse train pretrain "${common[@]}"
# A few seconds of that person's clean speech.
stage 5 finetune -- pse train finetune "${common[@]}"
# Every system on every test mixture.
stage 6 enhance -- pse infer "${common[@]}"
# SI-SDR, SDR, PESQ and eSTOI of each utterance.
stage 7 score -- pse score "${common[@]}"
# RESULTS.md, plots, and a page to listen to.
stage 8 report -- pse report "${common[@]}"
# Directories with model, card and checksums, for `pse enhance`.
stage 9 pack -- pse pack "${common[@]}"

run_stages
