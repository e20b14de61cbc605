"""The whole method: CoOp, KDPL and class-agnostic KDPL are three losses; everything else is shared."""

import torch.nn.functional as F

import kdpl_utils as kd

world = kd.load_world("emoji")
student = kd.load_vlm(*world.student)
teacher = kd.load_vlm(*world.teacher)
train = kd.of_classes(world.train, world.base)
labels = train.labels.to(student.device)  # (N,)
class_names = [world.classnames[c] for c in world.base]  # C of them
dictionary = world.dictionary  # thousands of names, whatever the classes are

# Both models are frozen, so each encodes a training image once.
student_features = kd.encode_images(student, train.images)  # (N, D) unit vectors
teacher_features = kd.encode_images(teacher, train.images)
class_features = kd.encode_names(teacher, class_names, world.templates)
dictionary_features = kd.encode_names(teacher, dictionary, world.templates)
scale = student.scale  # as published, both distributions take the student's
teacher_logits = kd.logits(teacher_features, class_features, scale)  # (N, C)
dictionary_logits = kd.logits(teacher_features, dictionary_features, scale)  # (N, thousands)


def student_logits(prompt, batch, names):
    return kd.logits(student_features[batch], prompt(names), scale)


def coop(prompt, batch):  # needs labels and class names
    return F.cross_entropy(student_logits(prompt, batch, class_names), labels[batch])


def kdpl(prompt, batch):  # needs class names
    return kd.symmetric_kl(teacher_logits[batch], student_logits(prompt, batch, class_names))


def kdpl_class_agnostic(prompt, batch):  # needs neither
    chosen = kd.select_classes(dictionary_logits[batch], k=32)  # the teacher picks 32 of the thousands
    names = [dictionary[i] for i in chosen.tolist()]
    return kd.symmetric_kl(dictionary_logits[batch][:, chosen], student_logits(prompt, batch, names))


tests = kd.test_features(student, world)
for loss in (coop, kdpl, kdpl_class_agnostic):
    prompt = kd.PromptLearner(student)  # starts as "a photo of a"
    history = kd.learn(prompt, loss, labels, seed=0, recipe=kd.Recipe(**world.recipe))
    print(loss.__name__, kd.summarise([kd.scores(tests, world, prompt, scale)]))

prompt(["papaya", "dragon fruit"])  # (2, D): a learned context belongs to no class list
