"""Texts that a query is compared with, so that its score is a probability and not a bare cosine."""

from __future__ import annotations

# Common things of all kinds: what a picture may show instead of what was asked for.
_WORDS = """
person, man, woman, baby, child, crowd of people, hand, face, eye, family, wedding, smile, hair, dog, cat,
horse, cow, sheep, pig, chicken, bird, owl, duck, fish, shark, whale, frog, snake, turtle, elephant, lion,
tiger, bear, monkey, rabbit, mouse, fox, deer, butterfly, bee, spider, insect, tree, forest, flower, rose,
leaf, grass, mushroom, cactus, garden, field, farm, mountain, beach, sea, lake, river, waterfall, desert,
island, sky, cloud, sunset, night, star, moon, sun, rain, snow, fire, lightning, rainbow, volcano, apple,
banana, orange, strawberry, grapes, lemon, tomato, carrot, corn, bread, cheese, egg, meat, pizza, burger,
cake, ice cream, chocolate, coffee, tea, beer, wine, bottle, cup, plate, fork, knife, house, castle, church,
tower, bridge, city, street, shop, school, hospital, factory, room, kitchen, bathroom, bed, chair, table,
lamp, door, window, stairs, clock, mirror, bathtub, car, bus, truck, train, bicycle, motorcycle, airplane,
helicopter, rocket, ship, boat, traffic light, book, newspaper, letter, pencil, scissors, key, lock, bag,
suitcase, umbrella, hat, shirt, shoe, dress, trousers, glasses, ring, crown, gift, balloon, candle, toy,
doll, robot, phone, computer, keyboard, camera, television, screenshot, document, map, diagram, chart, table
of text, guitar, piano, drum, violin, football, tennis, swimming, running, dancing, skiing, chess, dice,
hammer, saw, screwdriver, gear, battery, magnet, microscope, syringe, pill, skeleton, heart, flag, coin,
money, road sign, arrow, circle, triangle, square, logo, letters, number, pattern, texture, drawing,
painting, sculpture, black and white photo, blurry photo, close-up, portrait, landscape, old man, teenager,
couple, king, queen, knight, soldier, police officer, firefighter, doctor, teacher, student, cook, farmer,
worker, artist, singer, astronaut, pilot, pirate, clown, ninja, wizard, angel, devil, ghost, zombie,
mermaid, monster, alien, bride, foot, leg, arm, finger, nose, mouth, tooth, tongue, ear, brain, muscle,
blood, beard, crying, laughing, anger, sadness, fear, surprise, sleeping, kiss, hug, waving, pointing,
thumbs up, fist, fight, prayer, thinking, walking, sitting, jumping, climbing, riding, eating, drinking,
reading, writing, cooking, cleaning, shopping, fishing, working, singing, flying, falling, digging, goat,
donkey, camel, giraffe, zebra, rhinoceros, kangaroo, panda, gorilla, wolf, squirrel, hedgehog, bat, rat,
seal, penguin, dolphin, octopus, crab, snail, ant, worm, scorpion, crocodile, lizard, dinosaur, dragon,
unicorn, eagle, parrot, swan, turkey, feather, nest, paw, horn, bone, shell, coral, seed, branch, root,
wood, vine, jungle, cave, cliff, rock, sand, ice, wave, storm, tornado, fog, smoke, dust, planet, comet,
galaxy, pear, peach, cherry, watermelon, pineapple, coconut, avocado, potato, onion, garlic, pepper,
cucumber, salad, soup, rice, noodles, sushi, sandwich, hot dog, french fries, pancakes, sausage, honey,
salt, butter, milk, juice, water, cocktail, cookie, candy, doughnut, pie, popcorn, nut, rope, chain, wire,
pipe, bucket, basket, box, barrel, jar, spoon, pan, pot, kettle, oven, refrigerator, washing machine, broom,
soap, sponge, towel, toothbrush, comb, razor, perfume, lipstick, jewel, necklace, watch, belt, tie, sock,
glove, scarf, jacket, skirt, boot, backpack, wallet, sofa, desk, shelf, drawer, curtain, carpet, pillow,
fan, fireplace, roof, wall, fence, gate, brick, ladder, axe, shovel, drill, nail, rake, sword, shield, bow
and arrow, spear, gun, cannon, bomb, tank, armor, helmet, trophy, medal, ribbon, bell, whistle, trumpet,
flute, saxophone, microphone, headphones, loudspeaker, radio, film, theater, mask, brush, palette, pen,
ruler, paper clip, envelope, stamp, folder, calendar, notebook, clipboard, glue, calculator, printer, plug,
light bulb, flashlight, lantern, match, cigarette, thermometer, telescope, test tube, atom, molecule,
bandage, stethoscope, wheelchair, tent, compass, binoculars, anchor, steering wheel, wheel, engine, fuel
pump, parachute, kite, sled, skateboard, scooter, tractor, crane, bulldozer, ambulance, police car, taxi,
tram, cable car, canoe, sailboat, submarine, satellite, flying saucer, drone, basketball, baseball, golf,
bowling, boxing, hockey, volleyball, archery, gymnastics, surfing, puzzle, playing cards, game controller,
dart, roller coaster, carousel, circus, airport, railway station, harbor, hotel, restaurant, bank, museum,
library, temple, mosque, lighthouse, windmill, skyscraper, stadium, fountain, statue, grave, prison, market,
park, playground, road, path, tunnel, dam, office, classroom, stage, ruins, pyramid, hut, barn, cross,
crescent, question mark, exclamation mark, check mark, plus sign, percent sign, musical note, recycling,
warning, no smoking, hourglass, alarm clock, button, switch, menu, search, settings, download, upload, link,
user, message, speech bubble, notification, home, trash can, copy, edit, print, save, share, play, pause,
volume, signal, cursor, target, hexagon, spiral, line, dot, cube, sphere, diamond, zodiac sign, barcode, bar
chart, pie chart, organization, family tree, plan, security, justice, scales, business, growth, idea,
success, time, speed, energy, electricity, explosion, poison, radiation, disease, virus, death, birth, war,
peace, religion, magic, dream, music, science, education, health, holiday, party, birthday, christmas,
halloween, easter, fireworks, selfie, group of friends, receipt, handwriting, poster, book cover, comic,
cartoon, icon, sticker, graffiti, x-ray, aerial view, night sky, silhouette, costume, tattoo, makeup, red,
yellow, green, blue, purple, pink, brown, black, white, gray
"""
BACKGROUND = tuple(" ".join(word.split()) for word in _WORDS.split(","))
