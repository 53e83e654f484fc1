"""The networks that the recipes train, as plain torch modules."""

from rung.train.models.cgan import ConditionalGAN
from rung.train.models.digits_cnn import DigitsCNN
from rung.train.models.digits_mlp import DigitsMLP
from rung.train.models.gpt import GPT
from rung.train.models.resnet import ResNet, resnet18
from rung.train.models.resnet50 import ResNet50
from rung.train.models.vit import ViT
from rung.train.models.word_transformer import WordTransformer

__all__ = [
    "GPT",
    "ConditionalGAN",
    "DigitsCNN",
    "DigitsMLP",
    "ResNet",
    "ResNet50",
    "ViT",
    "WordTransformer",
    "resnet18",
]
