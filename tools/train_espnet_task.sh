#!/usr/bin/env bash
# Train ESPnet's own EnhancementTask on a recipe's mixtures, enhance the test mixtures with the result, and
# score them here. It needs the recipe's stages up to `features`, and tools/install_espnet.sh.
#
#   egs/librispeech_pse/run.sh --stop_stage features
#   tools/train_espnet_task.sh --num_train 1000
set -euo pipefail

dumpdir=../egs/librispeech_pse/dump/mini      # DIR what stage features made: dump/<corpus> of the recipe
outdir=../egs/librispeech_pse/exp/espnet_task # DIR data, model, enhanced audio and scores
config=espnet_enh.yaml                        # FILE ESPnet's configuration of the training
num_train=200                                 # N mixtures to draw for training
seed=0                                        # N the same seed gives the same mixtures and weights
ngpu=0                                        # N devices to train on
set=()                                        # KEY=VALUE one more option of ESPnet's enh_train; may be repeated

here=$(cd "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
source "$here/../utils/parse_options.sh"
cd "$here"
source ../utils/env.sh
source ../utils/log.sh

[[ -f $config ]] || fail 1 "train_espnet_task: $config: no such file"
mkdir -p -- "$outdir"
outdir=$(cd "$outdir" && pwd -P)
options=()
for item in ${set[@]+"${set[@]}"}; do
  [[ $item == *=* ]] || fail 1 "train_espnet_task: --set $item is not KEY=VALUE"
  options+=("--${item%%=*}" "${item#*=}")
done

say "== data =="
python espnet_data.py write --dumpdir "$dumpdir" --datadir "$outdir/data" --num_train "$num_train" --seed "$seed"

say "== ESPnet's training: $outdir/train/train.log =="
inputs=()
for part in train valid; do
  inputs+=("--${part}_data_path_and_name_and_type" "$outdir/data/$part/wav.scp,speech_mix,sound")
  inputs+=("--${part}_data_path_and_name_and_type" "$outdir/data/$part/spk1.scp,speech_ref1,sound")
  inputs+=("--${part}_shape_file" "$outdir/data/$part/utt2num_samples")
done
mkdir -p -- "$outdir/train"
python espnet_program.py enh_train --config "$config" --output_dir "$outdir/train" --seed "$seed" --ngpu "$ngpu" \
  "${inputs[@]}" ${options[@]+"${options[@]}"} >"$outdir/train/train.log" 2>&1 ||
  fail 1 "train_espnet_task: ESPnet's training failed: $(tail -n 1 "$outdir/train/train.log"); see $outdir/train/train.log"
grep -o '[0-9]*epoch results:.*' "$outdir/train/train.log" || true

say "== ESPnet's enhancement of the test mixtures =="
python espnet_program.py enh_inference --train_config "$outdir/train/config.yaml" \
  --model_file "$outdir/train/valid.loss.best.pth" --output_dir "$outdir/enhanced" --ngpu "$ngpu" \
  --fs "$(<"$outdir/data/sample_rate")" --data_path_and_name_and_type "$outdir/data/test/wav.scp,speech_mix,sound" >"$outdir/train/inference.log" 2>&1 ||
  fail 1 "train_espnet_task: ESPnet's inference failed; see $outdir/train/inference.log"

say "== scores =="
python espnet_data.py score --datadir "$outdir/data/test" --estimates "$outdir/enhanced/spk1.scp" \
  --outdir "$outdir/scores"
say "in $outdir: train/ (model), enhanced/spk1.scp (audio), scores/scores.tsv"
